#!/usr/bin/perl
# Children killed all the time under load; the respawn backoff; a poisoned region.
#
# TALLYD_STORM_SECONDS (default 12): how long the storm lasts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Hammer;
use Tallyd qw(build_dir patience wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	KILL_EVERY   => 0.02, # seconds
	SILENCE      => 5,    # seconds without any answer: then it does not serve throughout
	BACKOFF      => 0.1,  # seconds, of respawn_backoff
	BACKOFF_ROUNDS => 5,
	BACKOFF_SLACK  => 0.5, # seconds that a rebirth may be late
};

my $storm_seconds = $ENV{TALLYD_STORM_SECONDS} || 12;

# ---- the storm

my $tallyd = Tallyd->start(config => { workers => 4, respawn_backoff => 0,
	snapshot_every => '128K', journal_segment => '4M', max_accounts => 200_000 });
my $hammer = Hammer->start($tallyd, connections => 8, depth => 32, accounts => 50);
ok($hammer->wait_more(100), 'events are accepted before the storm');

my %killed;
my $master = $tallyd->pid;
my $end = time + $storm_seconds;
my $next = time;
while (time < $end) {
	my @children = $tallyd->children;
	# A snapshotter lives for milliseconds, and is tried again only after ten seconds.
	my ($one) = grep { $_->{role} eq 'snap' } @children;
	$one = $children[rand @children] unless $one;
	$killed{ $one->{role} }++ if $one && kill 'KILL', $one->{pid};
	last if defined $tallyd->exit_status;
	$next += KILL_EVERY;
	$next = time if $next < time; # a slow machine kills less often
	sleep($next - time) if $next > time;
}
ok($hammer->wait_more(1000), 'events are accepted after the storm') or diag $tallyd->log_tail;
my $told = $hammer->finish;

my $kills = 0;
$kills += $_ for values %killed;
note join ', ', map({ "$killed{$_} $_" } sort keys %killed), "$told->{acknowledged} acknowledged, "
	. "$told->{unknown} unknown, silence $told->{longest_silence_ms} ms";
cmp_ok($kills, '>=', $storm_seconds * 10 / patience(), 'many were killed');
ok($killed{$_}, "... a $_ among them") for qw(worker journal snap);
is(defined $tallyd->exit_status ? 'gone' : $tallyd->pid, $master, 'the master lives');
cmp_ok($told->{longest_silence_ms}, '<', SILENCE * 1000 * patience(), 'it answered throughout');
cmp_ok($told->{unknown}, '>', 0, 'clients saw the deaths');
is_deeply([Hammer::oddities($told)], [], 'no event was applied twice, no answer was wrong');
is_deeply([Hammer::lost($tallyd, $told)], [],
	'acknowledged events are there once, the others at most once');
unlike($tallyd->log_text, qr/inconsistent/, 'every half-done operation was repaired');
is($tallyd->stop, 0, 'it drains after all that');
$tallyd->start_again;
is_deeply([Hammer::lost($tallyd, $told)], [], 'a restart finds the same balances');
is($tallyd->stop, 0, 'and drains again');
# Every record must follow from the one before it, also those that a snapshot has made needless.
unlink $_ or die "unlink $_: $!" for glob $tallyd->data_dir . '/snapshots/*';
ok(eval { $tallyd->start_again; 1 }, 'the journal alone is whole from its beginning') or diag $@;
is_deeply([$tallyd->pid ? Hammer::lost($tallyd, $told) : ()], [], '... and gives the same balances');
$tallyd->stop if $tallyd->pid;
undef $tallyd;

# ---- the backoff

# The worker's next incarnation after the death of PID, and how long that took.
sub rebirth {
	my ($daemon, $pid) = @_;
	kill 'KILL', $pid or die "cannot kill $pid: $!";
	my $dead = time;
	my ($child) = wait_until { grep { $_->{pid} != $pid } $daemon->children('worker') } 20;
	return ($child ? (($daemon->children('worker'))[0]{pid}, time - $dead) : ());
}

$tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => BACKOFF });
my ($child) = $tallyd->children('worker');
my $pid = $child->{pid};
for my $round (0 .. BACKOFF_ROUNDS - 1) {
	my $wanted = BACKOFF * 2**$round;
	($pid, my $took) = rebirth($tallyd, $pid);
	die "no worker was born again; the log:\n" . $tallyd->log_tail unless $pid;
	cmp_ok($took, '>=', $wanted * 0.95, "death $round: replaced after a backoff of $wanted s");
	cmp_ok($took, '<', $wanted + BACKOFF_SLACK * patience(), '... and not much later');
}
is($tallyd->event('after', 1)->{status}, 200, 'it serves after the last rebirth');
if ($storm_seconds >= 30) {
	sleep 10.5; # what is tested is that time passes
	($pid, my $took) = rebirth($tallyd, $pid);
	cmp_ok($took, '<', BACKOFF + BACKOFF_SLACK * patience(), 'ten healthy seconds: from 0.1 s again');
}
is($tallyd->stop, 0, 'drained');
undef $tallyd;

# ---- a journal writer that dies between two marks

sub region_name {
	my ($daemon) = @_;
	my ($device, $inode) = stat $daemon->data_dir;
	return sprintf '/tallyd-%x-%x', $device, $inode;
}

for my $sync (qw(always interval)) {
	$tallyd = Tallyd->start(config => { workers => 1, queue_events => 1, sync => $sync,
		sync_interval => 10 });
	$tallyd->event('marks', 1);
	my $lsn = $tallyd->event('marks', 1)->{json}{lsn};
	for my $events (1, 2) {
		my ($writer) = $tallyd->children('journal');
		sleep 0.2; # what is tested is a writer with nothing left to do
		kill 'STOP', $tallyd->pid;
		kill 'KILL', $writer->{pid};
		wait_until { my ($state) = $tallyd->children('journal'); !$state } 5;
		is(system(build_dir() . '/t/poison', region_name($tallyd), 'marks', $lsn, $events), 0,
			"sync $sync: marks of a writer that died, $events events");
		kill 'CONT', $tallyd->pid;
		is(eval { $tallyd->balance('marks', deadline => 5) }, 2 + ($events - 1),
			'... what it had made durable is answered');
		my $answer = eval { $tallyd->event('marks', 1, deadline => 5) } || {};
		is($answer->{status}, 200, '... and no event counts as waiting that does not');
		$lsn = $answer->{json}{lsn} if $answer->{json};
	}
	is($tallyd->stop, 0, '... drained');
	undef $tallyd;
}

# ---- poison

$tallyd = Tallyd->start(config => { workers => 2 });
$hammer = Hammer->start($tallyd, connections => 4, accounts => 20);
for my $way (qw(flag owner)) {
	ok($hammer->wait_more(100), "$way: events are accepted before it");
	my $mark = $tallyd->log_mark;
	is(system(build_dir() . '/t/poison', region_name($tallyd), $way), 0, "$way: region damaged");
	ok($tallyd->wait_log(qr/the region is inconsistent.*?recovered in/s, 10, $mark),
		"$way: the master notices, and rebuilds from disk");
	ok($hammer->wait_more(100), "$way: events are accepted again");
}
$told = $hammer->finish;
is_deeply([Hammer::oddities($told)], [], 'poison: nothing was applied twice');
is_deeply([Hammer::lost($tallyd, $told)], [], 'poison: nothing acknowledged was lost');
is($tallyd->stop, 0, 'poison: drained');

done_testing;
