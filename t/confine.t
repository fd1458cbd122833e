#!/usr/bin/perl
# What the running daemon is confined to, as /proc says of each of its processes; what a reload
# changes of it; that who may open no file still gets a new one; and that a data directory which
# others may read is refused.  What the filters and Landlock forbid is tried by t/confine-unit.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use POSIX ();
use Tallyd qw(patience send_all read_response slurp wait_until);
use Test::More;

my $is_root = $> == 0;

sub field { my ($pid, $name) = @_; return (slurp("/proc/$pid/status") =~ /^\Q$name\E:\s+(.*)$/m)[0] }

# The log of the start says what there is to be seen.
my $probe = Tallyd->start;
my ($said) = $probe->log_text =~ /master info: confined: (.*)/;
ok($said, 'the log says how the daemon is confined') or diag($probe->log_text);
$probe->stop;
my $sanitized = $said =~ /sanitizers/;
my $filtered = $said =~ /seccomp (?:log|errno|kill)/;
undef $probe;

# "worker" and so on to the pids that have the role.
sub roles {
	my ($tallyd) = @_;
	my %pids = (master => [$tallyd->pid]);
	push @{ $pids{ $_->{role} } }, $_->{pid} for $tallyd->children;
	return %pids;
}

# A snapshotter that stays: it waits until an event is durable whose writer is stopped.
sub held_snapshotter {
	my ($tallyd) = @_;
	my ($writer) = map { $_->{pid} } $tallyd->children('journal');
	kill 'STOP', $writer or die "kill: $!";
	my $client = $tallyd->connection;
	my $body = '{"account":"waits","amount":1}';
	send_all($client, "POST /events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
		. length($body) . "\r\n\r\n$body");
	# The event is in the ring when a worker has it, which who asks another cannot see: so once more.
	my $found;
	wait_until {
		kill 'USR2', $tallyd->pid;
		($found) = $tallyd->children('snap');
		return unless $found;
		select undef, undef, undef, 0.1;
		return grep { $_->{pid} == $found->{pid} } $tallyd->children('snap');
	} 20;
	return ($found, sub { kill 'CONT', $writer; return read_response($client) });
}

subtest 'what /proc says of each role' => sub {
	my $tallyd = Tallyd->start;
	$tallyd->event('alice', 100);
	my ($snapshotter, $go_on) = held_snapshotter($tallyd);
	ok($snapshotter, 'a snapshotter is there to be looked at');
	my %pids = roles($tallyd);
	is_deeply([sort keys %pids], [qw(journal master snap worker)], 'all roles');
	for my $role (sort keys %pids) {
		for my $pid (@{ $pids{$role} }) {
			is(field($pid, 'NoNewPrivs'), 1, "$role: no new privileges");
			is(field($pid, 'Umask'), '0077', "$role: umask");
			like(slurp("/proc/$pid/limits"), qr/^Max core file size\s+0\s+0\s/m, "$role: no core file");
			like(slurp("/proc/$pid/coredump_filter"), qr/^0+$/, "$role: no memory in core dumps");
			my ($flags) = slurp("/proc/$pid/smaps") =~ m{/dev/shm/tallyd-\N*\n(?:(?![0-9a-f]+-)\N*\n)*?VmFlags:(\N*)};
			like($flags || '', qr/ dd\b/, "$role: least of all the region");
			SKIP: {
				skip 'no filters here', 2 unless $filtered;
				is(field($pid, 'Seccomp'), 2, "$role: system calls are filtered");
				my $filters = field($pid, 'Seccomp_filters');
				skip 'this kernel does not count filters', 1 unless defined $filters;
				is($filters, $role eq 'master' ? 1 : 2, "$role: by its own filter, and the master's");
			}
		}
	}
	is($go_on->()->{status}, 200, 'the event is answered');
	ok($tallyd->wait_log(qr/snapshotter info: snapshot at/, 20), 'the snapshot is written');
	is($tallyd->stop, 0, 'it drains');
	unlike($tallyd->log_text, qr/signal 31|not permitted/i, 'nobody tried what is forbidden');
};

# What whoever runs the tests has left open for us is not the daemon's.
my %inherited = map { my $name = readlink; defined $name ? ($name => 1) : () } glob "/proc/$$/fd/*";

# Regular files that PID could write to, without those of its name in ALLOWED.
sub writable {
	my ($pid, $allowed) = @_;
	my @found;
	for my $link (glob "/proc/$pid/fd/*") {
		my $name = readlink $link;
		next unless defined $name && $name =~ m{^/} && $name !~ m{^/(?:dev|proc)/} && $name !~ $allowed;
		next if $inherited{$name};
		my ($flags) = slurp($link =~ s{/fd/}{/fdinfo/}r) =~ /^flags:\s+(\d+)/m;
		push @found, $name if oct($flags) & 3;
	}
	return join ' ', @found;
}

subtest 'what a child has open for writing' => sub {
	my $dir = tempdir(CLEANUP => 1);
	chmod 0755, $dir;
	my $tallyd = Tallyd->start(config => { access_log => "$dir/access", chat_history => "$dir/chat" },
		listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'chat' }]]);
	$tallyd->event('alice', 100);
	my ($snapshotter, $go_on) = held_snapshotter($tallyd);
	my %pids = roles($tallyd);
	is_deeply([sort keys %pids], [qw(journal master snap worker)], 'all roles');
	# Each has the lock of the data directory, which is no one's without being held, and the log.
	my %own = (worker => qr{/(?:access|chat)$}, journal => qr{/journal/}, snap => qr{/snapshots/});
	for my $role (sort keys %own) {
		is(writable($_, qr{(?:/lock|/tallyd\.log|/log)$|$own{$role}}), '', "$role: its own, the log, the lock") for @{ $pids{$role} };
	}
	is($go_on->()->{status}, 200, 'the event is answered');
	is($tallyd->stop, 0, 'it drains');
};

subtest 'without' => sub {
	my $tallyd = Tallyd->start(config => { seccomp => 'off', landlock => 'false' });
	my %pids = roles($tallyd);
	is(field($_, 'Seccomp'), 0, 'no filter with seccomp = off') for map { @$_ } values %pids;
	is(field($_, 'NoNewPrivs'), 1, 'no new privileges all the same') for map { @$_ } values %pids;
	like($tallyd->log_text, qr/confined: seccomp off, Landlock off/, 'the log says so') unless $sanitized;
	is($tallyd->stop, 0, 'it drains');
};

subtest 'a reload changes it for new processes' => sub {
	plan skip_all => 'no filters here' unless $filtered;
	my $tallyd = Tallyd->start(config => { seccomp => 'off' });
	my %before = map { $_->{pid} => 1 } $tallyd->children;
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(seccomp => 'errno');
	$tallyd->hup;
	ok($tallyd->wait_log(qr/notice: reloaded/, 20, $mark), 'reloaded');
	ok($tallyd->wait_log(qr/confined: /, 5, $mark), 'the log says what is so now');
	ok((wait_until {
		my @now = $tallyd->children;
		return @now == 3 && !grep { $before{ $_->{pid} } } @now;
	} 20), 'workers and journal writer are others');
	ok((wait_until { !grep { field($_->{pid}, 'Seccomp') != 2 } $tallyd->children } 10), 'all of them filtered');
	is($tallyd->event('a', 1)->{status}, 200, 'and at work');
	is($tallyd->stop, 0, 'it drains');
};

# As t/confine-unit shows, this is how the kernel ends who tries what is forbidden.
subtest 'a worker that was ended by its filter is replaced' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => 0 });
	my ($worker) = map { $_->{pid} } $tallyd->children('worker');
	kill 'SYS', $worker;
	ok($tallyd->wait_log(qr/worker 1 .*killed by signal 31: a system call that it may not make/, 10),
		'the log says why it died') or diag($tallyd->log_text);
	ok((wait_until { my $answer = eval { $tallyd->event('a', 1) }; $answer && $answer->{status} == 200 } 10), 'another serves');
	is($tallyd->stop, 0, 'it drains');
};

# ---- files that others open

subtest 'an access log is opened anew in the name of the user' => sub {
	plan skip_all => 'only root can become somebody else' unless $is_root;
	my ($uid) = (getpwnam 'nobody')[2];
	my $dir = tempdir(CLEANUP => 1);
	chmod 0755, $dir;
	mkdir "$dir/log" or die $!;
	chown $uid, -1, "$dir/log" or die $!;
	my $access = "$dir/log/access";
	my $tallyd = Tallyd->start(config => { user => 'nobody', access_log => $access, workers => 2,
		data_directory => "$dir/data" }, data_dir => "$dir/data");
	rename $access, "$access.1" or die $!;
	$tallyd->usr1;
	# By the name that its open file has: not every worker is asked something.
	ok((wait_until {
		my @new = grep { grep { (readlink // '') eq $access } glob "/proc/$_->{pid}/fd/*" } $tallyd->children('worker');
		return @new == 2;
	} 10), 'both workers have the new one');
	is((stat $access)[4], $uid, 'which is the user\'s');
	is((stat $access)[2] & 0777, 0640, 'with the mode of a log');
	$tallyd->request('GET', '/after');
	ok((wait_until { slurp($access) =~ m{GET /after} } 10), 'and lines go there');

	open my $other, '>', "$dir/other" or die $!;
	close $other;
	rename $access, "$access.2" or die $!;
	symlink "$dir/other", $access or die $!;
	my $mark = $tallyd->log_mark;
	$tallyd->usr1;
	ok($tallyd->wait_log(qr/opener warning: access log .* of worker \d cannot be reopened: Permission denied/, 10, $mark),
		'a name that leads to a file of root\'s does not open it') or diag($tallyd->log_text);
	$tallyd->request('GET', '/still');
	ok((wait_until { slurp("$access.2") =~ m{GET /still} } 10), 'the old one stays in use');
	is(-s "$dir/other", 0, 'nothing is written there');
	is($tallyd->stop, 0, 'it drains');
};

subtest 'the log is handed to the workers and the journal writer' => sub {
	my $dir = tempdir(CLEANUP => 1);
	my $tallyd = Tallyd->start(config => { log => "$dir/log" });
	ok((wait_until { $tallyd->children == 3 && slurp("$dir/log") =~ /serving with/ } 10), 'it serves');
	rename "$dir/log", "$dir/log.1" or die $!;
	$tallyd->usr1;
	ok((wait_until {
		my @new = grep { grep { (readlink // '') eq "$dir/log" } glob "/proc/$_->{pid}/fd/*" } $tallyd->children;
		return @new == 3;
	} 10), 'all have the new one');
	my $counts = sub { return map { scalar(() = glob "/proc/$_->{pid}/fd/*") } $tallyd->children };
	my @before = $counts->();
	for (1 .. 5) {
		rename "$dir/log", "$dir/log.1" or die $!;
		$tallyd->usr1;
		wait_until { -e "$dir/log" } 10;
		wait_until {
			3 == grep { grep { (readlink // '') eq "$dir/log" } glob "/proc/$_->{pid}/fd/*" } $tallyd->children;
		} 10;
	}
	# The old one is closed a moment after the new one is there, then as now.
	my $none_more = sub { my @now = $counts->(); return !grep { $now[$_] > $before[$_] } 0 .. $#before };
	ok((wait_until { $none_more->() } 10), 'however often, no descriptor is left');
	is($tallyd->stop, 0, 'it drains');
};

# ---- the data directory

sub start_on {
	my ($mode, $group, %config) = @_;
	my $dir = tempdir(CLEANUP => 1);
	chmod 0755, $dir;
	mkdir "$dir/data", 0700 or die $!;
	chown $config{user} ? (getpwnam $config{user})[2] : -1, $group, "$dir/data" or die "chown: $!";
	chmod $mode, "$dir/data" or die $!;
	return Tallyd->start(data_dir => "$dir/data", config => \%config, expect_failure => 1)
		unless $config{served};
	delete $config{served};
	return Tallyd->start(data_dir => "$dir/data", config => \%config);
}

subtest 'a data directory that others can read' => sub {
	my $own = (split ' ', $))[0];
	for my $mode (0755, 0701, 0704, 0702, 0770, 0720) {
		my $tallyd = start_on($mode, $own);
		my $text = sprintf '%04o', $mode;
		is($tallyd->exit_status, 3, "mode $text is refused");
		like($tallyd->log_text, qr{error: .*/data: others may read or change the balances there: its mode is $text, its group \d+; chmod 0700},
			'... with what, why and what to do');
		ok(!-e $tallyd->data_dir . '/lock', '... and nothing is made in it');
	}
	for my $mode (0700, 0750, 0710, 0500 | 0200) {
		my $tallyd = start_on($mode, $own, served => 1);
		is($tallyd->event('a', 1)->{status}, 200, sprintf 'mode %04o of the own group is not', $mode);
		is($tallyd->stop, 0, 'it drains');
	}
	SKIP: {
		skip 'only root has other groups', 6 unless $is_root;
		my ($nobody, $nobody_id, $theirs) = (getpwnam 'nobody')[0, 2, 3];
		is(start_on(0750, $theirs)->exit_status, 3, 'mode 0750 of another group is refused');
		is(start_on(0750, $own, user => $nobody)->exit_status, 3, '... also of root\'s, where the service is somebody else');
		my $tallyd = start_on(0750, $theirs, user => $nobody, served => 1);
		is($tallyd->event('a', 1)->{status}, 200, '... but not of that somebody\'s group');
		is($tallyd->stop, 0, 'it drains');
		my $foreign = tempdir(CLEANUP => 1);
		mkdir "$foreign/data", 0700 or die $!;
		chown $nobody_id, -1, "$foreign/data" or die "chown: $!";
		$tallyd = Tallyd->start(data_dir => "$foreign/data", expect_failure => 1);
		is($tallyd->exit_status, 3, 'one that belongs to somebody else is refused');
		like($tallyd->log_text, qr{error: .*/data: belongs to user $nobody_id, who could read or change the balances there; chown it to user 0}, '... with what, why and what to do');
	}
};

done_testing();
