#!/usr/bin/perl
# The end of holds: each is released within a second of its time, under load, while workers are
# killed, or none lives for long, and where it ran out while nothing ran; and where a capture comes at the same moment as the
# end, one of them happens, and everybody says which.
#
# TALLYD_EXPIRY_HOLDS (default 400), TALLYD_EXPIRY_RACES (default 150: captures at the last moment)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Hammer;
use POSIX ();
use Tallyd qw(patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);
use Time::Local qw(timegm);

use constant {
	LATE       => 1,    # second, at most, from a hold's time to its release
	ACCOUNTS   => 20,   # that the holds are spread over
	BALANCE    => 1_000_000,
	KILL_EVERY => 0.05, # seconds
	RACERS     => 8,    # processes that capture
	EARLY      => 0.05, # seconds before a hold's time that they begin to
	SPREAD     => 0.1,  # seconds over which they do
	PAGE       => 100,
	TOLD       => 5,    # differences that are printed
};

my $holds = $ENV{TALLYD_EXPIRY_HOLDS} || 400;
my $races = $ENV{TALLYD_EXPIRY_RACES} || 150;

my $tallyd = Tallyd->start(config => { workers => 4, respawn_backoff => 0, snapshot_every => '256K',
	default_floor => 0 });
my $connection;

sub call { return $tallyd->call(@_[0 .. 3], connection => $connection) }

sub gets { # what must be there
	my ($path) = @_;
	my $answer = call('GET', $path);
	die "GET $path: $answer->{status} $answer->{body}" unless $answer->{status} == 200;
	return $answer->{json};
}

# Seconds since 1970 of an RFC 3339 time.
sub seconds {
	my ($text) = @_;
	my ($year, $month, $day, $hour, $minute, $second, $fraction) =
		$text =~ /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)Z$/ or die "no time: $text";
	return timegm($second, $minute, $hour, $day, $month - 1, $year) + $fraction;
}

sub lines { my ($what, @wrong) = @_; is(scalar @wrong, 0, $what); diag $_ for splice @wrong, 0, TOLD; return }

# Places COUNT holds; TTL gives the time to live of each.  { id => { account, amount, expires } }.
sub place {
	my ($prefix, $count, $ttl) = @_;
	my %placed;
	for my $number (1 .. $count) {
		my $name = "$prefix" . $number % ACCOUNTS;
		my $answer = call('POST', '/holds', { account => $name, amount => $number,
			ttl => $ttl->($number), id => "$prefix-hold-$number" });
		die "no hold: $answer->{status} $answer->{body}" unless $answer->{status} == 201;
		$placed{"$prefix-hold-$number"} = { account => $name, amount => $number,
			expires => seconds($answer->{json}{expires}) };
	}
	return \%placed;
}

sub make_accounts {
	my ($prefix) = @_;
	for my $number (0 .. ACCOUNTS - 1) {
		my $answer = call('POST', '/events', { account => "$prefix$number", amount => BALANCE });
		die "no account: $answer->{body}" unless $answer->{status} == 200;
	}
	return;
}

# How the statements say that holds ended: { id => [[type, time, amount], ..] }.
sub ends {
	my ($prefix) = @_;
	my %ends;
	for my $number (0 .. ACCOUNTS - 1) {
		my $path = "/accounts/$prefix$number/events?limit=" . PAGE;
		while (defined $path) {
			my $page = gets($path);
			push @{ $ends{ $_->{hold} } }, [$_->{type}, seconds($_->{time}), $_->{amount}]
				for grep { defined $_->{hold} && $_->{type} ne 'hold' } @{ $page->{events} };
			$path = $page->{next};
		}
	}
	return \%ends;
}

# What is reserved in all accounts.
sub held {
	my ($prefix) = @_;
	my $held = 0;
	$held += gets("/accounts/$prefix$_")->{held} for 0 .. ACCOUNTS - 1;
	return $held;
}

# Holds whose end is not an expiry between their time, or SINCE (a start) if that is later, and a
# second afterwards.
sub not_in_time {
	my ($placed, $ends, $since) = @_;
	my @wrong;
	for my $id (sort keys %$placed) {
		my @end = @{ $ends->{$id} || [] };
		my $due = $placed->{$id}{expires};
		my $begin = $due > $since ? $due : $since;
		next if @end == 1 && $end[0][0] eq 'expire' && $end[0][2] == 0 && $end[0][1] >= $due
			&& $end[0][1] <= $begin + LATE * patience();
		push @wrong, "$id, due at $due (since $since): " . join ', ', map { "@$_" } @end;
	}
	return @wrong;
}

# ---- under load, while workers are killed

$connection = $tallyd->connection;
make_accounts('load');
my $placed = place('load', $holds, sub { 1 + $_[0] % 3 });
my $hammer = Hammer->start($tallyd, connections => 4, depth => 4, accounts => 40);
my $last = 0;
for (values %$placed) { $last = $_->{expires} if $_->{expires} > $last }
my $killed = 0;
while (time < $last + LATE) {
	my @children = $tallyd->children('worker');
	$killed += kill 'KILL', $children[rand @children]{pid} if @children;
	sleep KILL_EVERY;
}
my $told = $hammer->finish;
cmp_ok($told->{acknowledged}, '>', 100, "load ($told->{acknowledged} events), and $killed workers killed");
is_deeply([Hammer::oddities($told), Hammer::lost($tallyd, $told)], [], '... none of it lost');
$connection = $tallyd->connection;
ok((wait_until { held('load') == 0 } 5), 'every hold is released');
my $ends = ends('load');
note sprintf 'the latest %.3f s after its time', (sort { $a <=> $b }
	map { $ends->{$_}[0][1] - $placed->{$_}{expires} } keys %$ends)[-1];
lines('... as an expiry, after its time and within a second of it', not_in_time($placed, $ends, 0));
lines('... as each hold says', grep { gets("/holds/$_")->{state} ne 'expired' } sort keys %$placed);

# ---- while nothing runs

make_accounts('down');
my $short = place('down', $holds / 2, sub { 1 + $_[0] % 2 });
make_accounts('stay');
my $long = place('stay', $holds / 4, sub { 3600 });
my $held = held('stay');
$tallyd->kill9;
my $dark = (sort { $a <=> $b } map { $_->{expires} } values %$short)[-1];
my $now = time;
cmp_ok($now, '<', $dark, 'all is killed before the last hold runs out');
wait_until { time > $dark } 10;
$now = time;
$tallyd->start_again;
$connection = $tallyd->connection;
ok((wait_until { held('down') == 0 } 5), 'what ran out while nothing ran is released after the start');
$ends = ends('down');
my %in_the_dark = map { $_ => $short->{$_} } grep { ($ends->{$_}[0][1] || 0) >= $now } keys %$short;
cmp_ok(scalar keys %in_the_dark, '>', 0, scalar(keys %in_the_dark) . ' ran out while nothing ran');
lines('... journalled, within a second of the start', not_in_time(\%in_the_dark, $ends, $now));
delete $short->{$_} for keys %in_the_dark;
lines('... and those before it, of their time', not_in_time($short, $ends, 0));
is(held('stay'), $held, '... and no other is');
is_deeply(ends('stay'), {}, '... by their statements, too');
$tallyd->kill9;
$tallyd->start_again;
$connection = $tallyd->connection;
is_deeply(ends('down'), $ends, 'after another crash they have ended once, at the same time');
is(held('stay'), $held, '... and the others are held');

# ---- at the very moment

# Captures HOLDS, [id, when], at their times, and writes down the answers.
sub racer {
	my ($file, @races) = @_;
	my $connection = $tallyd->connection;
	open my $log, '>', $file or die "$file: $!";
	for my $race (sort { $a->[1] <=> $b->[1] } @races) {
		my ($id, $when) = @$race;
		my $early = $when - time;
		sleep $early if $early > 0;
		my $answer = $tallyd->call('POST', "/holds/$id/capture", { amount => 1 }, undef,
			connection => $connection);
		my $json = $answer->{json};
		print {$log} join(' ', $id, $answer->{status}, $json->{reason} || '-', $json->{state} || '-'), "\n";
	}
	close $log or die "$file: $!";
	return;
}

make_accounts('race');
$placed = place('race', $races, sub { 1 + int rand 2 });
my @pids;
for my $number (0 .. RACERS - 1) {
	# Two processes for each hold.
	my @mine = map { [$_, $placed->{$_}{expires} - EARLY + rand SPREAD] }
		grep { /(\d+)$/ && ($1 % RACERS == $number || ($1 + 1) % RACERS == $number) } keys %$placed;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		my $ok = eval { racer($tallyd->dir . "/racer$number", @mine); 1 };
		print STDERR "# $@" unless $ok;
		POSIX::_exit($ok ? 0 : 1);
	}
	push @pids, $pid;
}
is((scalar grep { waitpid($_, 0) == $_ && $? == 0 } @pids), RACERS, 'captures at the last moment');
my %answers;
for my $number (0 .. RACERS - 1) {
	for my $line (split /\n/, slurp($tallyd->dir . "/racer$number")) {
		my ($id, @answer) = split / /, $line;
		push @{ $answers{$id} }, "@answer";
	}
}

# Holds of which not everybody says the same: the answers, the statement, the hold.
sub disputed {
	my ($ends) = @_;
	my @wrong;
	for my $id (sort keys %$placed) {
		my %said = map { $_ => 1 } @{ $answers{$id} };
		my $captured = $said{'200 - captured'};
		my $wanted = $captured ? '200 - captured' : '409 hold_settled expired';
		my $hold = gets("/holds/$id");
		my $how = join ', ', map { "$_->[0] $_->[2]" } @{ $ends->{$id} };
		next if join('|', keys %said) eq $wanted
			&& $how eq ($captured ? 'capture -1' : 'expire 0')
			&& "$hold->{state} $hold->{captured}" eq ($captured ? 'captured 1' : 'expired 0')
			&& (!$captured || $ends->{$id}[0][1] <= $placed->{$id}{expires});
		push @wrong, "$id: answers " . join(' | ', sort keys %said) . "; statement $how; hold $hold->{state}, "
			. "captured $hold->{captured}";
	}
	return @wrong;
}

ok((wait_until { held('race') == 0 } 5), 'all are settled');
$ends = ends('race');
my $won = grep { $_->[0][0] eq 'capture' } values %$ends;
note "$won captured, ", $races - $won, ' expired';
cmp_ok($won, '>', 0, '... some by a capture');
cmp_ok($won, '<', $races, '... some by their time');
lines('... of each, the answers, its statement and itself say the same', disputed($ends));
$tallyd->kill9;
$tallyd->start_again;
$connection = $tallyd->connection;
is_deeply(ends('race'), $ends, '... and after a crash too');
lines('... word by word', disputed($ends));
my $sum = 0;
$sum += gets("/accounts/race$_")->{balance} for 0 .. ACCOUNTS - 1;
is($sum, ACCOUNTS * BALANCE - $won, '... and so do the balances');
is($tallyd->stop, 0, 'it stops');
undef $tallyd;

# ---- while no worker lives for longer than an answer

$tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => 0 });
is($tallyd->event('brief0', BALANCE)->{status}, 200, 'a single worker');
my $answer = $tallyd->call('POST', '/holds', { account => 'brief0', amount => 1, ttl => 1, id => 'brief' });
is($answer->{status}, 201, '... takes a hold');
my $due = seconds($answer->{json}{expires});
my $state = '';
while ($state ne 'expired' && time < $due + LATE * patience()) {
	my ($worker) = $tallyd->children('worker');
	kill 'KILL', $worker->{pid} if $worker;
	my $hold = eval { $tallyd->call('GET', '/holds/brief') };
	$state = $hold->{json}{state} if $hold;
}
is($state, 'expired', '... and, killed after each answer, still releases it in time');
is($tallyd->stop, 0, 'it stops');
done_testing;
