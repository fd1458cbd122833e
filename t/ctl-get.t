#!/usr/bin/perl
# tallyctl get: what it says is what the service says; also while nobody can be asked, and of an
# account in the middle of an operation; and every way in which it cannot.
# tallyctl snapshot: there is one, of what it says, or it says why not.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Ctl qw(ctl ctl_json ctl_as_nobody go_on is_error stop_all tallyctl);
use POSIX ();
use Tallyd qw(build_dir send_all slurp wait_until);
use Test::More;

my $tallyd = Tallyd->start(config => { workers => 2, snapshot_every => 0 });
my $data = $tallyd->data_dir;
my @here = ('-d', $data);
my $long = 'a-name-that-is-longer-than-one-slot-of-the-table-takes-' . 'x' x 45;

sub post { my ($account, $amount) = @_; return $tallyd->event($account, $amount)->{json} }

post(alice => 1234567);
post(alice => -67);
my $long_lsn = post($long => 5)->{lsn};
$tallyd->call(PUT => '/accounts/bob', { floor => -10, ceiling => 1000, frozen => 'debits' });
$tallyd->call(PUT => '/accounts/deleted', {});
$tallyd->call(DELETE => '/accounts/deleted');
$tallyd->call(POST => '/holds', { account => 'alice', amount => $_, ttl => 600, id => "hold-$_" })
	for 100, 200;
$tallyd->call(POST => '/holds', { account => 'alice', amount => 50, ttl => 600, id => 'over' });
$tallyd->call(POST => '/holds/over/release');

# ---- get

sub same_as_served {
	my ($account, $why) = @_;
	my $served = $tallyd->call(GET => "/accounts/$account")->{json};
	my ($status, $json) = ctl_json(@here, 'get', $account);
	is($status, 0, "$why: found");
	is_deeply([@$json{sort keys %$served}], [@$served{sort keys %$served}], "$why: as the service says");
	is($json->{durable} ? 1 : 0, 1, "$why: durable");
	is($json->{under_way} ? 1 : 0, 0, "$why: at rest");
	return $json;
}

my $alice = same_as_served(alice => 'an account with holds');
ok(!exists $alice->{holds}, 'without --holds they are not listed');
same_as_served(bob => 'one with limits');
is(same_as_served($long => 'one with a long name')->{lsn}, $long_lsn, 'its LSN is that of its record');

my ($status, $out, $err) = ctl(@here, 'get', 'alice');
is($status, 0, 'for people');
is($err, '', 'without complaint');
like($out, qr/^account +alice\nbalance +1 234 500\nheld +300\nfloor +none\nceiling +none\nfrozen +none\nversion +\d+\nlsn +\d+\ncreated +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\nupdated +.*\n\z/,
	'it is a list');
($status, $out) = ctl(@here, 'get', 'bob');
like($out, qr/^available +10\nfloor +-10\nceiling +1 000\nfrozen +debits$/m, 'limits stand in it');

my ($holds_status, $json) = ctl_json(@here, 'get', '--holds', 'alice');
is_deeply([map { "$_->{hold} $_->{amount}" } @{ $json->{holds} }], ['hold-100 100', 'hold-200 200'],
	'the open holds, in the order in which they were placed');
($status, $out) = ctl(@here, 'get', 'alice', '--holds');
like($out, qr/^holds +2\n  hold-100  100, expires in (?:9|10) min \d+ s\n  hold-200  200, expires in/m,
	'people see when they expire');
($status, $json) = ctl_json(@here, 'get', '--holds', 'bob');
is_deeply($json->{holds}, [], 'one without any has none');

is_error([@here, 'get', 'nobody'], 5, 'unknown_account', qr/nobody: there is no such account/, 'nobody');
is_error([@here, 'get', 'deleted'], 5, 'unknown_account', qr/no such account/, 'a deleted one');
is_error([@here, 'get', 'x' x 101], 2, 'usage', qr/1 to 100 bytes/, 'a name that is too long');
is_error([@here, 'get'], 2, 'usage', qr/NAME is missing/, 'no name');
is_error([@here, 'get', 'a', 'b'], 2, 'usage', qr/"b" is one word too many/, 'two names');

# Many holds: more than room is made for at first.
$tallyd->call(POST => '/accounts', { account => 'many' });
post(many => 1000);
$tallyd->call(POST => '/holds', { account => 'many', amount => $_, ttl => 600, id => "m$_" }) for 1 .. 150;
($status, $json) = ctl_json(@here, 'get', '--holds', 'many');
is_deeply([map { $_->{amount} } @{ $json->{holds} }], [1 .. 150], 'however many holds it has');

# ---- snapshot

my ($asked, $snapshot) = ctl_json(@here, 'snapshot');
is($asked, 0, 'a snapshot is made');
is($snapshot->{status}, 'done', 'which it says');
is($snapshot->{file}, sprintf('%s/snapshots/%016x.snapshot', $data, $snapshot->{lsn}), 'in which file');
is(-s $snapshot->{file}, $snapshot->{bytes}, 'of how many bytes');
cmp_ok($snapshot->{lsn}, '>=', $alice->{lsn}, 'of everything that was there');
like($snapshot->{seconds}, qr/^\d+\.?\d*$/, 'how long it took');
my $lsn = post(alice => 1)->{lsn};
($status, $out, $err) = ctl(@here, 'snapshot');
is($status, 0, 'the next one');
like($out, qr{^\Q$data\E/snapshots/[0-9a-f]{16}\.snapshot: position \d+, [\d.]+ \w+, written in [\d.]+ \w+\n\z},
	'is told to people as well');
cmp_ok(($out =~ /position (\d+)/)[0], '>', $lsn, 'it has what came meanwhile');
is((ctl(@here, 'snapshot'))[0], 0, 'and one with nothing new');
is_error([@here, 'snapshot', 'x'], 2, 'usage', qr/one word too many/, 'a snapshot of something');
is_error([@here, 'snapshot', '-t', 'soon'], 2, 'usage', qr/-t: "soon" is no such number/, 'soon');

# ---- nobody can be asked

my @children = map { $_->{pid} } $tallyd->children;
stop_all(@children);
($status, $json) = ctl_json(@here, 'get', 'bob');
is($status, 0, 'with all processes stopped an account is found');
is($json->{ceiling}, 1000, 'as it is');
stop_all($tallyd->pid);
is_error([@here, 'snapshot', '-t', '0.3'], 7, 'timed_out', qr/not there after 300 ms: tallyd has not begun it/,
	'a master that is stopped');
go_on($tallyd->pid, @children);

# One who holds the lock of an account's stripe, and is stopped.
my $hold_lock = build_dir() . '/t/holdlock';
my ($device, $inode) = stat $data;
my $region = sprintf '/tallyd-%x-%x', $device, $inode;
my $holder = open my $from, '-|', $hold_lock, $region, 'alice' or die "cannot run $hold_lock: $!";
like(scalar <$from>, qr/^held/, 'another process holds the lock of an account');
($status, $json) = ctl_json(@here, 'get', 'alice');
is($status, 0, 'the account is read all the same');
is($json->{balance}, 1234501, 'and right');
kill KILL => $holder;
close $from;
is(post(alice => 1)->{balance}, 1234502, 'whoever comes next repairs it');

# In the middle of an operation: committed, and not yet written.
$holder = open $from, '-|', $hold_lock, $region, 'alice', 1000 or die "cannot run $hold_lock: $!";
like(scalar <$from>, qr/^held/, 'another one is stopped in the middle of an operation');
($status, $json) = ctl_json(@here, 'get', 'alice');
is($json->{balance}, 1235502, 'which is seen as what it comes to');
ok($json->{under_way}, 'and said to be under way');
like((ctl(@here, 'get', 'alice'))[1], qr/^under way +committed, and being written just now by the process in slot \d+; shown is what it comes to$/m,
	'to people as well');
kill KILL => $holder;
close $from;
is($tallyd->balance('alice'), 1235502, 'as it did');

# A snapshot that cannot be written: there is a file where its directory was.
rename "$data/snapshots", "$data/snapshots.away" or die $!;
open my $file, '>', "$data/snapshots" or die $!;
close $file;
is_error([@here, 'snapshot'], 1, 'failed', qr/could not write the snapshot: see its log/, 'no room for a snapshot');
unlink "$data/snapshots" or die $!;
rename "$data/snapshots.away", "$data/snapshots" or die $!;
is((ctl(@here, 'snapshot'))[0], 0, 'with room there is one again');

# Nothing becomes durable, so no snapshot of what is sent now can be published: one that is asked for
# waits.  Returns the process that asks, with its words in the file $data/../said.
my $socket;
sub ask_and_wait {
	stop_all(map { $_->{pid} } $tallyd->children('journal'));
	my $body = '{"account":"alice","amount":1}';
	$socket = $tallyd->raw_socket;
	send_all($socket, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
	wait_until { !((ctl_json(@here, 'get', 'alice'))[1]{durable}) } or die 'the event is not taken';
	my $child = fork;
	if ($child == 0) {
		open STDOUT, '>', "$data/../said" and open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		exec tallyctl(), @here, 'snapshot', '-t', 60 or POSIX::_exit(127);
	}
	ok((wait_until { $tallyd->children('snap') }), 'a snapshot waits for the journal');
	return $child;
}

# One that is being written when it is asked for is not what was asked for.
my $child = ask_and_wait();
for (1, 2) {
	($status, $out, $err) = ctl(@here, 'snapshot', '-t', '0.2');
	is($status, 7, 'who asks for another one waits for that');
	like($err, qr/has not begun it/, 'which has not begun');
}
go_on(map { $_->{pid} } $tallyd->children('journal'));
waitpid $child, 0;
is($?, 0, 'the first one gets its own');
like(slurp("$data/../said"), qr/position \d+/, 'and is told so');

# The daemon ends while it is waited for.
wait_until { !$tallyd->children('snap') };
$child = ask_and_wait();
$tallyd->kill9;
waitpid $child, 0;
is($? >> 8, 1, 'when the daemon is killed nobody waits for ever');
like(slurp("$data/../said"), qr/tallyd ended before the snapshot was there/, 'and it is said');

# ---- it does not run

for my $command (['get', 'alice'], ['snapshot']) {
	is_error([@here, @$command], 3, 'not_running', qr/\Q$data\E: tallyd does not run on this data directory/,
		"$command->[0], killed");
}
$tallyd->start_again;
is($tallyd->stop, 0, 'it is started and stopped');
for my $command (['get', 'alice'], ['snapshot']) {
	is_error([@here, @$command], 3, 'not_running', qr/tallyd does not run on this data directory/,
		"$command->[0], stopped");
	is_error(['-d', "$data/nowhere", @$command], 1, 'failed',
		qr{nowhere: No such file or directory; name the data directory with -d}, "$command->[0], nowhere");
	is_error(['-d', tempdir(CLEANUP => 1), @$command], 3, 'not_running', qr/no tallyd has run here yet/,
		"$command->[0], elsewhere");
}

SKIP: {
	skip 'only root can be somebody else', 6 if $> != 0;
	$tallyd->start_again;
	chmod 0755, $tallyd->dir;
	for my $command (['get', 'alice'], ['snapshot']) {
		($status, $out, $err) = ctl_as_nobody(@here, @$command);
		is($status, 4, "$command->[0] by somebody else");
		like($err, qr{^tallyctl: \Q$data\E: Permission denied; do it as root, or as whoever started tallyd}, 'is told who may');
		is($out, '', 'and nothing more');
	}
}

done_testing();
