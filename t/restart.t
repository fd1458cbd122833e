#!/usr/bin/perl
# SIGKILL to the master and everything else under load, of plain events and of every kind of
# operation, and starting again; a second master on the same data; the restart with a long journal.
#
# TALLYD_RESTART_ROUNDS (default 20), TALLYD_RESTART_BANK (default 10: with every operation),
# TALLYD_RESTART_RECORDS (default 300000: of the long journal)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Bank;
use Hammer;
use IO::Socket::IP;
use List::Util qw(shuffle);
use POSIX ();
use Tallyd qw(build_dir wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	LOAD      => 0.3, # seconds, at most, of load before everything is killed
	GONE      => 5,   # seconds that a dead master's children may still be there
	LETS_GO   => 0.5, # seconds for which its address is still held
	LONG_WAIT => 300, # seconds to write the long journal
	ANSWERS   => 100, # that the bank gives before everything is killed
	TOLD      => 10,  # differences that are printed
};

my $rounds = $ENV{TALLYD_RESTART_ROUNDS} || 20;
my $bank_rounds = $ENV{TALLYD_RESTART_BANK} || 10;
my $records = $ENV{TALLYD_RESTART_RECORDS} || 300_000;

# ---- kill -9 of everything

# Kills the master alone, or all in any order.  True once all are gone.
sub kill_family {
	my ($tallyd, $alone) = @_;
	my @family = map { $_->{pid} } my @children = $tallyd->children;
	kill 'KILL', $_ for $alone ? $tallyd->pid : shuffle($tallyd->pid, @family);
	$tallyd->wait_exit(10);
	# An orphan that was born after the look shows as a data directory that stays in use.
	return wait_until { !grep { Tallyd::_alive($_) } @children } GONE;
}

my $tallyd = Tallyd->start(config => { workers => 3, journal_segment => '256K',
	snapshot_every => '256K' });
my $hammer = Hammer->start($tallyd, connections => 8, depth => 2, accounts => 40, grace => 0);
for my $round (1 .. $rounds) {
	$hammer->wait_more(50) or die "nothing is accepted; the log:\n" . $tallyd->log_tail;
	sleep rand LOAD;
	my $alone = $round % 2;
	ok(kill_family($tallyd, $alone), "round $round: "
		. ($alone ? 'the children die with the master' : 'all are killed'));
	ok(eval { $tallyd->start_again; 1 }, '... and it starts again') or diag $@;
	last unless $tallyd->pid;
}
my $told = $hammer->finish;
note "$told->{acknowledged} acknowledged, $told->{unknown} unknown";
is_deeply([Hammer::oddities($told)], [], 'no event was lost or applied twice');
is_deeply([Hammer::lost($tallyd, $told)], [],
	'acknowledged events are there once, the others at most once');

is($tallyd->stop, 0, 'drained');
undef $tallyd;

# ---- the same with every kind of operation

# A snapshot every few hundred operations: each has open holds and ids that are asked for again.
$tallyd = Tallyd->start(config => { workers => 4, journal_segment => '256K', snapshot_every => '64K',
	default_floor => 0 });
my $bank = Bank->open($tallyd, dir => $tallyd->dir, prefix => 'bank', accounts => 200,
	customers => 8);
my $snapshots = 0; # with holds and ids that a start began with
for my $round (1 .. $bank_rounds) {
	$bank->wait_more(ANSWERS) or die "the bank has no answers; the log:\n" . $tallyd->log_tail;
	sleep rand LOAD;
	ok(kill_family($tallyd, $round % 2), "bank, round $round: all are killed");
	ok(eval { $tallyd->start_again; 1 }, '... and it starts again') or diag $@;
	last unless $tallyd->pid;
	my ($ids, $holds) = $tallyd->log_text =~ /accounts, (\d+) ids, (\d+) holds.*recovered in/s;
	$snapshots++ if $ids && $holds;
}
cmp_ok($snapshots, '>', $bank_rounds / 2, 'starts began with a snapshot that has ids and holds');
ok($bank->close, 'every customer was answered') or diag $tallyd->log_tail;
my $heard = $bank->testimony;

sub agree {
	my ($when) = @_;
	my @wrong = Bank::differences($heard, Bank::books($tallyd));
	is(scalar @wrong, 0, "$when: the books follow from the answers");
	diag $_ for splice @wrong, 0, TOLD;
	is_deeply([Bank::asked_again($heard, $tallyd)], [],
		"$when: every id is answered as before, byte for byte");
	return;
}

agree('at the end');
kill_family($tallyd, 0);
$tallyd->start_again;
agree('after one more');
is($tallyd->stop, 0, 'drained');
my $said = `'@{[build_dir()]}/tallyctl' -d '@{[$tallyd->data_dir]}' journal check 2>&1`;
is($?, 0, 'tallyctl journal check agrees') or diag $said;
undef $tallyd;

# ---- a second master

$tallyd = Tallyd->start(config => { workers => 3, journal_segment => '256K',
	snapshot_every => '256K' });

$hammer = Hammer->start($tallyd, connections => 4, accounts => 40, prefix => 'second');
$hammer->wait_more(50) or die 'nothing is accepted';
my $second = Tallyd->start(data_dir => $tallyd->data_dir, expect_failure => 1);
is($second->exit_status, 3, 'a second master is refused with status 3');
my $pid = $tallyd->pid;
like($second->log_text, qr/\Q${\$tallyd->data_dir}\E.*in use by process $pid/,
	'... with the directory and who uses it');
ok($hammer->wait_more(50), '... and the first goes on');
$told = $hammer->finish;
is_deeply([Hammer::oddities($told), Hammer::lost($tallyd, $told)], [], '... unharmed');
is($tallyd->stop, 0, 'drained');
undef $tallyd;

# ---- a dying predecessor's address

# A worker that was killed lets go of the data directory first.
$tallyd = Tallyd->start(config => { workers => 1 });
my @address = (LocalHost => '127.0.0.1', LocalPort => $tallyd->port, Listen => 5, ReuseAddr => 1);
is($tallyd->stop, 0, 'drained');
my $held = IO::Socket::IP->new(@address) or die "the address: $@";
my $holder = fork;
die "fork: $!" unless defined $holder;
if ($holder == 0) {
	sleep LETS_GO;
	POSIX::_exit(0);
}
close $held;
ok(eval { $tallyd->start_again; 1 }, 'an address that is let go soon: it starts') or diag $@;
waitpid $holder, 0;
is($tallyd->stop, 0, 'drained') if $tallyd->pid;
$held = IO::Socket::IP->new(@address) or die "the address: $@";
$tallyd->start_again(expect_failure => 1);
is($tallyd->exit_status, 1, 'one that is not: it does not start');
like($tallyd->log_text, qr/cannot bind: Address already in use; stop the program that has it/, '... and says why');
close $held;
undef $tallyd;

# ---- a long journal

$tallyd = Tallyd->start(config => { journal_segment => '64M', ring_size => '16M',
	snapshot_every => 0 });
$told = Hammer->start($tallyd, connections => 8, depth => 128, accounts => 5000,
	requests => $records, grace => 30)->wait_end(LONG_WAIT);
cmp_ok($told->{acknowledged}, '>=', $records * 0.9, "a journal of $told->{acknowledged} records");
kill_family($tallyd, 0);
# It queues in the backlog while the journal is read.
$hammer = Hammer->start($tallyd, connections => 8, accounts => 100, prefix => 'after');
my $began = time;
$tallyd->start_again;
my $took = time - $began;
ok($hammer->wait_more(500), 'it serves under load right after the restart');
my ($seconds, $replayed) = $tallyd->log_text =~ /recovered in ([\d.]+) s: (\d+) records replayed/;
cmp_ok($replayed, '>=', $told->{acknowledged}, 'all of it was replayed');
note sprintf '%d records in %s s, served %.2f s after the start', $replayed, $seconds, $took;
my $after = $hammer->finish;
is_deeply([Hammer::oddities($after), Hammer::lost($tallyd, $told), Hammer::lost($tallyd, $after)],
	[], 'with the right balances');
is($tallyd->stop, 0, 'drained');

done_testing;
