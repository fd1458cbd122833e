#!/usr/bin/perl
# tallyctl status: what it says of a daemon that is well, and of one whose processes are stopped, dead,
# locked out or leaving; what its last start met; and when there is none.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Ctl qw(ctl ctl_json ctl_as_nobody go_on is_error stop_all);
use Tallyd qw(build_dir send_all slurp wait_until);
use Test::More;
use Time::HiRes qw(time);

my $tallyd = Tallyd->start(config => { workers => 2, respawn_backoff => 2, snapshot_every => 0,
	drain_timeout => 60, max_holds => 100 });
my $data = $tallyd->data_dir;
my @here = ('-d', $data);

sub pids { my ($role) = @_; return map { $_->{pid} } $tallyd->children($role) }

# The reasons of the problems that status tells, the fatal ones with a "!", and its exit status.
sub problems {
	my ($status, $json) = ctl_json(@here, 'status');
	my $fatal = grep { $_->{fatal} } @{ $json->{problems} };
	fail("takes_updates contradicts the problems") if !$json->{takes_updates} != !!$fatal;
	fail("exit status $status") if $status != ($fatal ? 6 : 0);
	return join ' ', map { ($_->{fatal} ? '!' : '') . $_->{reason} } @{ $json->{problems} };
}

# The same once it is WANTED, or what it is instead.
sub becomes {
	my ($wanted, $name) = @_;
	my $got;
	wait_until { ($got = problems()) eq $wanted };
	return is($got, $wanted, $name);
}

# ---- well

$tallyd->event("account-$_", 5) for 1 .. 7;
$tallyd->call(POST => '/events', '{"account":"account-1","amount":"some"}');
$tallyd->call(POST => '/accounts', { account => 'empty', floor => 0 });
$tallyd->call(POST => '/events', { account => 'empty', amount => -1 });
$tallyd->call(POST => '/holds', { account => 'account-1', amount => 2, ttl => 60, id => 'h' });

my ($status, $json);
# A moment after the last record there is one more, which says how far it is durable.
wait_until {
	($status, $json) = ctl_json(@here, 'status');
	$json->{positions}{durable} == $json->{positions}{tail};
};
is($status, 0, 'a daemon that is well');
is($json->{status}, 'running', 'runs');
ok($json->{takes_updates}, 'and takes updates');
is_deeply($json->{problems}, [], 'there are no problems');
is($json->{pid}, $tallyd->pid, 'its master');
is($json->{data}, $data, 'where');
like($json->{version}, qr/^\d+\.\d+\.\d+/, 'its version');
like($json->{started}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'since when');
is_deeply([sort { $a <=> $b } map { $_->{pid} } @{ $json->{workers} }], [sort { $a <=> $b } pids('worker')], 'its workers');
is_deeply([map { "$_->{number} $_->{state}" } @{ $json->{workers} }], ['1 serving', '2 serving'], 'serve');
is($json->{journal_writer}{pid}, (pids('journal'))[0], 'its journal writer');
is($json->{events}{accepted}, 9, 'what it has accepted');
is($json->{events}{refused}, 1, 'and refused');
is($json->{events}{invalid}, 1, 'and could not read');
is($json->{accounts}{used}, 8, 'its accounts');
is($json->{accounts}{limit}, 10_000, 'of how many');
is($json->{holds}{used}, 1, 'its holds');
is($json->{ids}{used}, 1, 'its ids');
cmp_ok($json->{positions}{durable}, '>', 4096, 'how far it is durable');
is($json->{positions}{durable}, $json->{positions}{tail}, 'which is all');
is($json->{journal}{first}, 4096, 'where its journal begins');
cmp_ok($json->{journal}{bytes}, '>=', 1 << 20, 'and its size');
is($json->{snapshot}{taken}, undef, 'no snapshot yet');
ok($json->{recovery}{clean}, 'a first start is clean');

my ($human_status, $out, $err) = ctl(@here, 'status');
is($human_status, 0, 'for people');
is($err, '', 'without complaint');
like($out, qr/^tallyd \S+ on \Q$data\E: takes updates\nmaster +process @{[$tallyd->pid]}, since \d/, 'first the verdict and the master');
for my $line (qr/workers +2 of 2 serve/, qr/worker 1 +process \d+, serving; connections \d+, requests \d+/,
	qr/journal writer +process \d+, serving/, qr/accounts +8 of 10 000 \(0 %\)/, qr/ring +.* of .*iB \(0 %\)/,
	qr/positions +tail \d+, written \d+, durable \d+/, qr/snapshot +none; written since the start 0, failed 0/,
	qr/journal +1\.0 MiB, segments 1, from position 4096; sync always/, qr/recovery +.*, 0 records replayed/,
	qr/open holds +1 of 100 \(1 %\)/, qr/drain rate +\S+ events\/s/) {
	like($out, qr/^$line/m, "a line $line");
}
is((ctl(@here, 'snapshot'))[0], 0, 'with a snapshot');
like((ctl(@here, 'status'))[1], qr/^snapshot +position \d+, [\d.]+ m?s old, .* of journal since; written since the start 1, failed 0$/m, 'its age is told');

# ---- nobody moves

my @workers = pids('worker');
stop_all(@workers);
my $begun = time;
is(problems(), '!workers_stopped', 'all workers are stopped');
cmp_ok(time - $begun, '<', 2 * Tallyd::patience(), 'which is told at once');
($status, $out) = ctl(@here, 'status');
is($status, 6, 'it takes no updates');
like($out, qr/: TAKES NO UPDATES\n  !! all workers are stopped\n/, 'people are told, too');
like($out, qr/^worker 1 +process \d+, stopped;/m, 'and who it is');
go_on($workers[0]);
becomes('workers_stopped', 'one of them goes on');
go_on(@workers);
becomes('', 'both do');

stop_all(pids('journal'));
is(problems(), '!journal_writer_stopped', 'the journal writer is stopped');
go_on(pids('journal'));
stop_all($tallyd->pid);
is(problems(), 'master_stopped', 'the master is stopped');
go_on($tallyd->pid);
becomes('', 'nobody is any more');
my @all = ($tallyd->pid, pids());
stop_all(@all);
is(problems(), '!journal_writer_stopped !workers_stopped master_stopped', 'all of them are');
go_on(@all);

# ---- a lock is held

my ($device, $inode) = stat $data;
my $region = sprintf '/tallyd-%x-%x', $device, $inode;
my $holder = open my $from, '-|', build_dir() . '/t/holdlock', $region, 'account-3' or die "holdlock: $!";
<$from>;
stop_all($holder);
becomes('lock_held', 'a lock is held by a process that is stopped');
my $detail = (ctl_json(@here, 'status'))[1]{problems}[0]{detail};
like($detail, qr/^lock \d+ \(accounts\) is held by a stranger \(process $holder\): who needs it waits$/, 'by whom, and of what');
kill KILL => $holder;
close $from;
becomes('lock_orphaned', 'it died');
$tallyd->event('account-3', 1);
becomes('', 'the next one repairs it');
is((ctl_json(@here, 'status'))[1]{locks}{repaired}, 1, 'which is counted');

# A worker that stands still with it: it waits for one that another process holds.
$holder = open $from, '-|', build_dir() . '/t/holdlock', $region, 'ring:' or die "holdlock: $!";
like(scalar <$from>, qr/^held/, 'another process holds the ring');
becomes('!lock_held', 'without the ring no update is taken');
like((ctl_json(@here, 'status'))[1]{problems}[0]{detail}, qr/^lock \d+ \(ring\) is held by/, 'which is told');
kill KILL => $holder;
close $from;
$tallyd->event('account-4', 1);
becomes('', 'it is well again');

# ---- deaths

kill KILL => (pids('worker'))[0];
becomes('workers_missing', 'a worker has died');
($status, $json) = ctl_json(@here, 'status');
is(scalar @{ $json->{workers} }, 1, 'one is left');
is($json->{workers_wanted}, 2, 'of two');
becomes('', 'it is replaced');
is((ctl_json(@here, 'status'))[1]{replaced}{workers}, 1, 'which is counted');
kill KILL => pids('journal');
becomes('!no_journal_writer', 'the journal writer has died');
becomes('', 'it is replaced, too');
is((ctl_json(@here, 'status'))[1]{replaced}{journal_writers}, 1, 'and counted');

# ---- leaving

my $socket = $tallyd->raw_socket;
send_all($socket, "GET /healthz HTTP/1.1\r\n");
wait_until { my $seen = (ctl_json(@here, 'status'))[1]; grep { $_->{connections} > 0 } @{ $seen->{workers} } };
$tallyd->term;
becomes('!draining', 'while it stops');
($status, $json) = ctl_json(@here, 'status');
is(join(' ', map { $_->{state} } @{ $json->{workers} }), 'leaving', 'the worker with a client is leaving')
	if @{ $json->{workers} } == 1;
close $socket;
is($tallyd->wait_exit, 0, 'it ends');
is_error([@here, 'status'], 3, 'not_running', qr/\Q$data\E: tallyd does not run on this data directory/, 'stopped');

# ---- what the start met

$tallyd->start_again;
is((ctl(@here, 'snapshot'))[0], 0, 'another snapshot');
$tallyd->event("account-$_", 5) for 1 .. 7;
$tallyd->kill9;
is_error([@here, 'status'], 3, 'not_running', qr/does not run/, 'killed: what it leaves behind is no daemon');
my ($newest) = sort { $b cmp $a } glob "$data/snapshots/*.snapshot";
open my $file, '+<', $newest or die $!;
seek $file, 100, 0;
print {$file} 'damage';
close $file;
$tallyd->start_again;
($status, $json) = ctl_json(@here, 'status');
is($status, 0, 'it starts again');
ok(!$json->{recovery}{clean}, 'uncleanly');
is($json->{recovery}{snapshots_refused}, 1, 'with a damaged snapshot');
cmp_ok($json->{recovery}{records}, '>=', 7, 'and records to replay');
like((ctl(@here, 'status'))[1], qr/^recovery +.* records replayed; the run before had ended uncleanly; 1 damaged snapshots passed over$/m,
	'people are told, too');

# ---- tables that are as small as may be

$tallyd->stop;
$tallyd->set_config(max_accounts => 16, max_holds => 64);
$tallyd->start_again;
my $room = (ctl_json(@here, 'status'))[1];
is("$room->{accounts}{used} of $room->{accounts}{limit}, $room->{holds}{limit}", '8 of 16, 64', 'small tables');
becomes('', 'with room in them are no problem');
$tallyd->call(POST => '/accounts', { account => "more-$_" }) for 1 .. 6;
becomes('', 'nor those that are not yet nine tenths full');
$tallyd->call(POST => '/accounts', { account => 'more-7' });
becomes('accounts_nearly_full', 'nine tenths are');

# ---- who may not

SKIP: {
	skip 'only root can be somebody else', 4 if $> != 0;
	($status, $out, $err) = ctl_as_nobody(@here, 'status');
	is($status, 4, 'somebody else may not look');
	like($err, qr{^tallyctl: \Q$data\E: Permission denied; do it as root, or as whoever started tallyd}, 'and is told who may');
	# Into the data directory, but not into the shared memory.
	chmod 0755, $tallyd->dir, $data;
	chmod 0644, "$data/lock";
	($status, $out, $err) = ctl_as_nobody(@here, 'status');
	is($status, 4, 'nor whoever may read the data directory only');
	like($err, qr{/dev/shm/tallyd-[0-9a-f-]+: Permission denied; do it as root}, 'and is told where');
}
is_error(['-d', "$data/nowhere", 'status'], 1, 'failed', qr{nowhere: No such file or directory}, 'nowhere');
is_error(['-d', tempdir(CLEANUP => 1), 'status'], 3, 'not_running', qr/no tallyd has run here yet/, 'elsewhere');
is_error(['-d', $tallyd->config_file, 'status'], 1, 'failed', qr/Not a directory/, 'a file');

done_testing();
