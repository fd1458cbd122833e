#!/usr/bin/perl
# Linearizability of one account's history: processes read and write it at the same time through
# all workers, while workers are killed, and note when each request began and when its answer came.
# A checker then looks for an order of all operations that agrees with these times and in which
# every answer is right.  The versions in the answers leave only one order to try, so that it is
# enough to see whether it agrees.
#
# TALLYD_LINEAR_SECONDS (default 5).

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use POSIX ();
use Tallyd qw(patience);
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep time);

use constant { WRITERS => 4, READERS => 4, KILL_EVERY => 0.1, FLOOR => -50, ANSWER_DEADLINE => 60 };

my $seconds = $ENV{TALLYD_LINEAR_SECONDS} || 5;

# An operation is [begin, end, kind, version, balance, amount]; kind is w (accepted), r (a read) or
# n (refused for want of funds; version unknown, balance is what the refusal saw).  Returns what is
# wrong, or nothing.
sub violations {
	my ($start, @operations) = @_;
	my @wrong;
	my %writes;
	for my $operation (grep { $_->[2] eq 'w' } @operations) {
		my $version = $operation->[3];
		push @wrong, "version $version was given twice" if $writes{$version};
		$writes{$version} = $operation;
	}
	my $balance = $start;
	my %balance = (1 => $start);
	for my $version (2 .. 1 + keys %writes) {
		my $write = $writes{$version};
		return (@wrong, "nobody wrote version $version") unless $write;
		$balance += $write->[5];
		push @wrong, "version $version: $write->[4] is not $balance" if $write->[4] != $balance;
		$balance{$version} = $balance;
	}
	for my $read (grep { $_->[2] eq 'r' } @operations) {
		my $is = $balance{ $read->[3] };
		push @wrong, "version $read->[3] was read as $read->[4]"
			unless defined $is && $is == $read->[4];
	}
	# By version, a write before its reads.  Who stands later must not have ended before one who
	# stands earlier began.
	my @order = sort {
		$a->[3] <=> $b->[3] || ($b->[2] eq 'w') <=> ($a->[2] eq 'w') || $a->[0] <=> $b->[0]
	} grep { $_->[2] ne 'n' } @operations;
	my $latest = 0;
	my $who;
	for my $operation (@order) {
		push @wrong, "$operation->[2] of version $operation->[3] ended before "
			. "$who->[2] of version $who->[3] began" if $operation->[1] < $latest;
		($latest, $who) = ($operation->[0], $operation) if $operation->[0] > $latest;
	}
	push @wrong, refusals(\%balance, \%writes, grep { $_->[2] eq 'n' } @operations);
	return @wrong;
}

# A refusal is a read of a balance that was the account's at some moment between its begin and end.
sub refusals {
	my ($balance, $writes, @refusals) = @_;
	my $last = 1 + keys %$writes;
	my @wrong;
	for my $refusal (@refusals) {
		my ($begin, $end, undef, undef, $saw) = @$refusal;
		# Versions that may have been the newest then: not followed by one whose write had ended.
		my $found = 0;
		for my $version (reverse 1 .. $last) {
			next if $version > 1 && $writes->{$version}[0] > $end;
			$found ||= $balance->{$version} == $saw;
			last if $version > 1 && $writes->{$version}[1] < $begin;
		}
		push @wrong, "a refusal saw $saw, which was never the balance then" unless $found;
	}
	return @wrong;
}

# ---- the checker sees what it should

my @good = ([0, 1, 'w', 2, 5, 5], [0.5, 2, 'r', 2, 5], [2.1, 3, 'w', 3, 8, 3], [2.2, 4, 'r', 2, 5],
	[3.1, 5, 'r', 3, 8], [3.5, 3.6, 'n', 0, 8]);
is_deeply([violations(0, @good)], [], 'a linearizable history passes');
for my $case (
	['a stale read', [3.5, 4, 'r', 2, 5]],
	['a read of the future', [0.1, 0.4, 'r', 3, 8]],
	['a read of nothing that was', [3.5, 4, 'r', 3, 7]],
	['a lost update', [4, 5, 'w', 3, 8, 3]],
	['a write that came out wrong', [4, 5, 'w', 4, 7, 1]],
	['a refusal by an old balance', [3.5, 4, 'n', 0, 5]],
	['a gap', [4, 5, 'w', 5, 9, 1]],
) {
	my ($what, $operation) = @$case;
	my @noticed = violations(0, @good, $operation);
	cmp_ok(scalar @noticed, '>', 0, "$what is noticed");
}

# ---- the history

my $tallyd = Tallyd->start(config => { workers => 4, respawn_backoff => 0 });
my $dir = tempdir(CLEANUP => 1);
is($tallyd->request('POST', '/accounts', {}, '{"account":"one","floor":' . FLOOR . '}')->{status}, 201,
	'an account');

sub act {
	my ($number, $log) = @_;
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	local $SIG{PIPE} = 'IGNORE';
	srand $number;
	my ($connection, $serial) = (undef, 0);
	until ($stop) {
		my $amount = 1 + int rand 20;
		$amount = -$amount if rand(2) < 1.1;
		my $id = "w$number-" . ++$serial;
		my $begin = clock_gettime(CLOCK_MONOTONIC);
		my $answer;
		# A worker that died may have done it: the id tells, and the operation is as long as all tries.
		until ($answer) {
			$answer = eval {
				$connection ||= $tallyd->connection;
				$number <= WRITERS
					? $tallyd->request('POST', '/events', {},
						qq({"account":"one","amount":$amount,"id":"$id"}), connection => $connection)
					: $tallyd->request('GET', '/accounts/one', {}, undef, connection => $connection);
			};
			$answer = undef if $answer && $answer->{status} == 503;
			next if $answer;
			undef $connection;
			return 1 if $stop && $number > WRITERS;
			die "no answer" if clock_gettime(CLOCK_MONOTONIC) > $begin + ANSWER_DEADLINE * patience();
			sleep 0.01;
		}
		undef $connection if ($answer->{headers}{connection} || '') eq 'close';
		my $end = clock_gettime(CLOCK_MONOTONIC);
		my $json = $answer->{json};
		my $kind = $number > WRITERS ? 'r' : $answer->{status} == 200 ? 'w'
			: $answer->{status} == 402 ? 'n' : die "status $answer->{status}: $answer->{body}";
		print {$log} join(' ', $begin, $end, $kind, $json->{version} || 0, $json->{balance}, $amount),
			"\n";
	}
	return 1;
}

my @pids;
for my $number (1 .. WRITERS + READERS) {
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open my $log, '>', "$dir/$number" or POSIX::_exit(1);
		my $ok = eval { act($number, $log) };
		print STDERR "# $@" unless $ok;
		POSIX::_exit(close($log) && $ok ? 0 : 1);
	}
	push @pids, $pid;
}
my $end = time + $seconds;
my $kills = 0;
while (time < $end) {
	my @workers = $tallyd->children('worker');
	$kills += kill 'KILL', $workers[rand @workers]{pid} if @workers;
	sleep KILL_EVERY;
}
kill 'TERM', @pids;
is(scalar(grep { waitpid($_, 0) != $_ || $? } @pids), 0, 'every client ended well')
	or diag $tallyd->log_tail;
my @operations;
for my $number (1 .. WRITERS + READERS) {
	open my $log, '<', "$dir/$number" or die $!;
	push @operations, map { chomp; [split / /] } <$log>;
}
my %count;
$count{ $_->[2] }++ for @operations;
note join ', ', map({ "$_ $count{$_}" } sort keys %count), "$kills kills";
cmp_ok($count{$_} || 0, '>', 20, "enough of $_") for qw(w r n);
cmp_ok($kills, '>', 0, 'workers were killed');
my @wrong = violations(0, @operations);
is(scalar @wrong, 0, 'the history is linearizable');
diag $_ for @wrong[0 .. (@wrong < 10 ? $#wrong : 9)];
is($tallyd->stop, 0, 'it stops');
done_testing;
