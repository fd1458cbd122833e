#!/usr/bin/perl
# GET /metrics: Prometheus' own check has nothing to say against it; the manual names what it names;
# it counts exactly, whoever answers and whoever dies.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Tallyd qw(read_response send_all slurp source_dir wait_until);
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use constant {
	MORE_ACCOUNTS => 400,    # than the smallest table takes
	LONG_NAME     => 'long name, ' x 8,
	LOAD_SECONDS  => 1.5,
};

my $tallyd = Tallyd->start(config => {
	workers => 2, snapshot_every => '64K', max_accounts => 16, max_holds => 64, queue_events => 1000, respawn_backoff => 0 });
use_daemon($tallyd);

sub page {
	my (%option) = @_;
	my $answer = $tallyd->request('GET', '/metrics', undef, undef, %option);
	die "$answer->{status} $answer->{body}" unless $answer->{status} == 200;
	return $answer->{body};
}

# { sample with its labels => value }
sub samples { return { map { /^([^# ]\S*?(?:\{.*\})?) (\S+)$/ ? ($1 => $2) : () } split /\n/, $_[0] } }

sub metrics { return samples(page(@_)) }

sub events { my ($now, $outcome, $reason) = @_; return $now->{qq(tallyd_events_total{outcome="$outcome",reason="$reason"})} || 0 }

sub requests {
	my ($now, $method, $endpoint, $status) = @_;
	return $now->{qq(tallyd_requests_total{method="$method",endpoint="$endpoint",status="$status"})} || 0;
}

sub sum { my ($now, $family) = @_; my $sum = 0; $sum += $now->{$_} for grep { /^\Q$family\E(?:\{|$)/ } keys %$now; return $sum }

# ---- the page

sub test_page {
	my $answer = $tallyd->request('GET', '/metrics');
	is($answer->{headers}{'content-type'}, 'text/plain; version=0.0.4; charset=utf-8', 'its type says which format it is');
	my $head = $tallyd->request('HEAD', '/metrics');
	is($head->{status}, 200, 'HEAD works');
	cmp_ok($head->{headers}{'content-length'}, '>', 5000, 'and says how long it would be');
	is(call('POST', '/metrics', {})->{status}, 405, 'nothing can be posted there');
	return;
}

sub test_promtool {
	SKIP: {
		skip 'promtool (Debian: prometheus) is not installed', 1 unless grep { -x "$_/promtool" } split /:/, $ENV{PATH};
		my $file = $tallyd->dir . '/page';
		open my $out, '>', $file or die "$file: $!";
		print {$out} page();
		close $out or die "$file: $!";
		my $said = `promtool check metrics <'$file' 2>&1`;
		is("$? $said", '0 ', 'promtool check metrics finds nothing');
	}
	return;
}

sub test_manual {
	my ($section) = slurp(source_dir() . '/man/tallyd-http.7') =~ /^\.Sh METRICS$(.*?)^\.Sh /ms;
	my %described;
	for (grep { /^\.It Va / } split /\n/, $section) {
		my ($labels) = /Brq (\S+)$/;
		$described{$_} = join ',', sort split /,/, $labels || '' for /\b((?:tallyd|process)_\w+)/g;
	}
	my (%shown, %labels);
	for (split /\n/, page()) {
		$shown{$1} = 1 if /^# TYPE (\w+) /;
		$labels{$1} = join ',', sort map { /^(\w+)=/ } split /(?<="),/, $2 if /^(\w+)\{(.*)\}/ && $1 !~ /_bucket$/;
	}
	is_deeply([sort keys %described], [sort keys %shown], 'tallyd-http(7) names every metric, and no other');
	my %wanted = map { $_ => $labels{$_} || '' } keys %shown;
	delete $wanted{tallyd_request_errors_total}, delete $described{tallyd_request_errors_total} unless $labels{tallyd_request_errors_total};
	is_deeply(\%described, \%wanted, 'with its labels');
	return;
}

# ---- a known workload

sub account { my ($name, %more) = @_; return ['POST', '/accounts', { account => $name, %more }] }

# [REQUEST, outcome, reason] of everything that can become of an operation here, but full tables.
sub workload {
	my @work = (
		[account('a', floor => 0, ceiling => 100), 'accepted', ''],
		[account('a'), 'refused', 'account_exists'],
		[event('a', 50), 'accepted', ''],
		[event('a', -51), 'refused', 'insufficient_funds'],
		[event('a', 51), 'refused', 'ceiling_exceeded'],
		[event('a', 1, id => 'once'), 'accepted', ''],
		[event('a', 1, id => 'once'), 'replayed', ''],
		[event('a', 2, id => 'once'), 'refused', 'id_reused'],
		[event('a', -99, id => 'no'), 'refused', 'insufficient_funds'],
		[event('a', -99, id => 'no'), 'replayed', ''],
		[account('cold', frozen => 'all'), 'accepted', ''],
		[event('cold', 1), 'refused', 'account_frozen'],
		[account(LONG_NAME), 'accepted', ''],
		[event('b', '9223372036854775807'), 'accepted', ''],
		[event('b', 1), 'refused', 'overflow'],
		[['POST', '/transfers', { from => 'a', to => 'a', amount => 1 }], 'refused', 'same_account'],
		[['POST', '/transfers', { from => 'a', to => 'c', amount => 1 }], 'accepted', ''],
		[['POST', '/transactions', { balanced => JSON::PP::true, legs => [{ account => 'a', amount => 1 }, { account => 'c', amount => 1 }] }],
			'refused', 'unbalanced'],
		[[@{ event('a', 1) }, { 'If-Match' => '"99"' }], 'refused', 'version_mismatch'],
		[['DELETE', '/accounts/a'], 'refused', 'account_not_empty'],
		[['DELETE', '/accounts/nobody'], 'refused', 'unknown_account'],
		[['POST', '/holds', { account => 'a', amount => 5, ttl => 600, id => 'h1' }], 'accepted', ''],
		[['POST', '/holds', { account => 'a', amount => 5, ttl => 600, id => 'h2' }], 'accepted', ''],
		[['POST', '/holds/h1/capture', {}], 'accepted', ''],
		[['POST', '/holds/h1/release'], 'refused', 'hold_settled'],
		[['POST', '/holds/none/release'], 'refused', 'unknown_hold'],
		[event('a', 'x'), 'invalid', 'invalid_amount'],
		[['POST', '/events', '{'], 'invalid', 'invalid_json'],
		[account('d'), 'accepted', ''],
		[['DELETE', '/accounts/d'], 'accepted', ''],
	);
	return @work;
}

sub test_exact {
	my $before = metrics();
	my (%wanted, $wrong);
	for (workload()) {
		my ($request, $outcome, $reason) = @$_;
		my $answer = call(@$request);
		my $got = $answer->{status} < 300 ? '' : $answer->{json}{reason};
		$wrong .= " $outcome $reason: $answer->{body}" if $outcome ne 'replayed' && $got ne $reason;
		$wanted{"$outcome $reason"}++;
	}
	is($wrong, undef, 'everything became what it should');
	my $after = metrics();
	is_deeply({ map { my ($outcome, $reason) = split / /, $_, -1;
			($_ => events($after, $outcome, $reason) - events($before, $outcome, $reason)) } keys %wanted },
		\%wanted, 'each outcome and reason was counted, exactly');
	is(sum($after, 'tallyd_events_total') - sum($before, 'tallyd_events_total'), scalar workload(), 'and nothing else was');
	is($after->{tallyd_accounts}, 5, 'accounts: a, cold, the long one, b, c');
	is($after->{tallyd_account_slots}, 6, 'of which the long one takes two places');
	is($after->{tallyd_ids}, 4, 'ids: once, no, h1, h2');
	is($after->{tallyd_holds}, 1, 'one hold is open');
	is($after->{tallyd_accounts_limit}, 16, 'beside max_accounts');
	is($after->{tallyd_holds_limit}, 64, 'and max_holds');
	is($after->{tallyd_queue_events_limit}, 1000, 'and queue_events');
	is($after->{tallyd_ring_bytes_limit}, (1 << 20) - 16_384, 'and what the ring takes');
	cmp_ok($after->{tallyd_account_slots_limit}, '>=', 16, 'and the places there are');
	is($after->{tallyd_ring_bytes} + $after->{tallyd_queue_events}, 0, 'nothing waits');
	return;
}

sub test_requests {
	my $before = metrics();
	my @asked = (
		[['GET', '/accounts/a'], 'GET', '/accounts/NAME', 200],
		[['GET', '/accounts/nobody'], 'GET', '/accounts/NAME', 404],
		[['PUT', '/accounts/a', { floor => 0 }], 'PUT', '/accounts/NAME', 200],
		[['GET', '/accounts'], 'GET', '/accounts', 200],
		[['GET', '/accounts?limit=0'], 'GET', '/accounts', 400],
		[['GET', '/accounts/a/events'], 'GET', '/accounts/NAME/events', 200],
		[['GET', '/holds/h2'], 'GET', '/holds/ID', 200],
		[['HEAD', '/healthz'], 'GET', '/healthz', 200],
		[['GET', '/nothing'], 'other', 'other', 404],
		[['BREW', '/events'], 'other', 'other', 501],
		[['DELETE', '/events'], 'other', 'other', 405],
		[['OPTIONS', '/events'], 'other', 'other', 204],
		[['POST', '/events', '{"account":"a","amount":1}' . "\n", { 'Content-Type' => 'application/x-ndjson' }], 'POST', '/events', 200],
	);
	$tallyd->request(@{ $_->[0] }[0, 1], $_->[0][3], ref $_->[0][2] ? JSON::PP::encode_json($_->[0][2]) : $_->[0][2]) for @asked;
	my $after = metrics();
	my %wanted;
	$wanted{"@{$_}[1 .. 3]"}++ for @asked;
	is_deeply({ map { ($_ => requests($after, split) - requests($before, split)) } keys %wanted }, \%wanted,
		'each request was counted by its endpoint and status');
	my %errors = map { ($_ => ($after->{qq(tallyd_request_errors_total{reason="$_"})} || 0)
			- ($before->{qq(tallyd_request_errors_total{reason="$_"})} || 0)) }
		qw(not_found method_not_allowed unknown_method unknown_account invalid_limit);
	is_deeply(\%errors, { map { $_ => 1 } keys %errors }, 'and its error');
	is($after->{tallyd_stream_seconds_count} - $before->{tallyd_stream_seconds_count}, 1, 'one of them came in lines');
	adds_up($after, 'after this');
	return;
}

# Every request was measured, or it waits, or it was lost.
sub adds_up {
	my ($now, $when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sum($now, 'tallyd_requests_total'), $now->{tallyd_request_seconds_count} + $now->{tallyd_stream_seconds_count}
			+ $now->{tallyd_answers_waiting} + $now->{tallyd_answers_lost_total}, "$when: every request was measured, waits, or was lost");
	for my $name (qw(tallyd_request_seconds tallyd_stream_seconds tallyd_fdatasync_seconds tallyd_group_commit_events)) {
		my @counts = map { $_->[1] } sort { $a->[0] <=> $b->[0] }
			map { /^\Q$name\E_bucket\{le="([\d.]+)"\}$/ ? [$1, $now->{$_}] : () } keys %$now;
		my @fallen = grep { $counts[$_] < $counts[$_ - 1] } 1 .. $#counts;
		ok(!@fallen && @counts > 10 && $counts[-1] <= $now->{"${name}_bucket{le=\"+Inf\"}"}
			&& $now->{"${name}_bucket{le=\"+Inf\"}"} == $now->{"${name}_count"}, "$when: the buckets of $name add up");
	}
	return;
}

# What has been accepted and is new was made durable in groups, by syncs that took time.
sub test_durable {
	my $before = metrics();
	call(@{ event('a', 1) }) for 1 .. 20;
	my $after = metrics();
	is($after->{tallyd_group_commit_events_sum} - $before->{tallyd_group_commit_events_sum}, 20, 'group commits have every event');
	my $groups = $after->{tallyd_group_commit_events_count} - $before->{tallyd_group_commit_events_count};
	is($groups, 20, 'one each where they come one by one');
	cmp_ok($after->{tallyd_fdatasync_seconds_count} - $before->{tallyd_fdatasync_seconds_count}, '>=', 20, 'with a sync for each');
	my $synced = $after->{tallyd_fdatasync_seconds_sum} - $before->{tallyd_fdatasync_seconds_sum};
	my $took = $after->{tallyd_request_seconds_sum} - $before->{tallyd_request_seconds_sum};
	cmp_ok($synced, '>', 0, 'that takes time');
	cmp_ok($took, '>=', $synced * 0.2, 'which is in that of the answers');
	cmp_ok($after->{tallyd_journal_written_bytes_total} - $before->{tallyd_journal_written_bytes_total}, '>=', 20 * 48, 'and writes bytes');
	return;
}

# ---- what is full

sub test_full {
	my $before = metrics();
	my $socket = $tallyd->connection;
	my ($made, $full) = (0, 0);
	for my $i (1 .. MORE_ACCOUNTS) {
		my $status = $tallyd->event("more-$i", 1, connection => $socket)->{status};
		$status == 200 ? $made++ : $full++;
	}
	cmp_ok($full, '>', 0, 'the table of accounts is full');
	my $after = metrics();
	is(events($after, 'rejected', 'table_full') - events($before, 'rejected', 'table_full'), $full, 'each time was counted');
	is($after->{tallyd_accounts} - $before->{tallyd_accounts}, $made, 'and each account that was made');
	is($after->{tallyd_account_slots}, $after->{tallyd_account_slots_limit}, 'no place is left');
	for (1 .. 300) {
		my $answer = $tallyd->call('POST', '/holds', { account => 'b', amount => 1, ttl => 600 }, undef, connection => $socket);
		last if $answer->{status} == 507;
		$made++;
	}
	my $now = metrics();
	is(events($now, 'rejected', 'holds_full'), 1, 'and the table of holds');
	cmp_ok($now->{tallyd_holds}, '>=', 64, 'with more than max_holds open');
	return;
}

# The operations that TALLYD takes, one after the other, up to the first that is answered with STATUS,
# or TRIES of them: how many were answered so, and how many were not.
sub until_status {
	my ($daemon, $status, $tries) = @_;
	my $socket = $daemon->connection;
	my $taken = 0;
	while ($taken < $tries) {
		return (1, $taken) if $daemon->event('a', 1, connection => $socket)->{status} == $status;
		$taken++;
	}
	return (0, $taken);
}

# strace on process PID, whose CALL fails with ERROR from now on.  Returns what is to be killed to end that.
sub fail_calls {
	my ($pid, $call, $error) = @_;
	my $strace = fork;
	die "fork: $!" unless defined $strace;
	if ($strace == 0) {
		exec 'strace', '-f', '-qqq', '-o', '/dev/null', '-e', "trace=$call", '-e', "inject=$call:error=$error", '-p', $pid
			or POSIX::_exit(127);
	}
	# What failed already is gone.
	wait_until { !grep { (eval { slurp("$_/status") } || '') =~ /^State:\s+[^ZX].*^TracerPid:\s*0$/ms } glob "/proc/$pid/task/*" }
		or diag 'strace did not attach';
	return $strace;
}

sub let_go { my ($strace) = @_; kill 'TERM', $strace; waitpid $strace, 0; return }

sub test_queue_full {
	my $slow = Tallyd->start(config => { workers => 1, queue_events => 5, journal_delay => 200 });
	my $socket = $slow->connection;
	my $body = '{"account":"a","amount":1}';
	send_all($socket, join('', map { "$_\r\n" } 'POST /events HTTP/1.1', 'Host: a', 'Content-Length: ' . length $body, $body) =~ s/(?=\{)/\r\n/r =~ s/\r\n\z//r x 40);
	my %count;
	$count{ read_response($socket)->{status} }++ for 1 .. 40;
	cmp_ok($count{503} || 0, '>', 0, 'a queue is full');
	my $now = samples($slow->request('GET', '/metrics')->{body});
	is(events($now, 'rejected', 'queue_full'), $count{503}, 'each time was counted');
	is(events($now, 'accepted', ''), $count{200}, 'and what was taken');
	is(requests($now, 'POST', '/events', 503), $count{503}, 'as answers of 503');
	is($now->{tallyd_queue_events_limit}, 5, 'beside the limit');
	is($slow->stop, 0, 'drained');
	return;
}

sub test_disk {
	SKIP: {
		skip 'strace is not installed, or may not trace here', 1 if system "strace -D -f -o /dev/null -e trace=fdatasync true 2>/dev/null";
		disk_full();
		journal_failed();
	}
	return;
}

sub disk_full {
	my $full = Tallyd->start(config => { workers => 1, journal_segment => '64K', ring_size => '64K', snapshot_every => 0 });
	my $get = sub { samples($full->request('GET', '/metrics')->{body}) };
	my $writer = wait_until { ($full->children('journal'))[0] };
	my $strace = fail_calls($writer->{pid}, 'fallocate', 'ENOSPC');
	my ($refused, $taken) = until_status($full, 507, 5000);
	is($refused, 1, 'a disk is full');
	$refused += (until_status($full, 507, 1))[0] for 1 .. 3;
	my $now = $get->();
	is(events($now, 'rejected', 'disk_full'), $refused, 'each time was counted');
	is(events($now, 'accepted', ''), $taken, 'and what was taken');
	is($now->{tallyd_disk_full}, 1, 'that it is full is told');
	let_go($strace);
	ok(wait_until { $get->()->{tallyd_disk_full} == 0 }, 'and no more, once there is room');
	is($full->stop, 0, 'drained');
	return;
}

# The master, which would end everything, stands still meanwhile; so does no worker end, since none has an
# answer that waits for the disk.
sub journal_failed {
	my $broken = Tallyd->start(config => { workers => 1, sync => 'interval', sync_interval => 100, snapshot_every => 0 });
	my $get = sub { samples($broken->request('GET', '/metrics')->{body}) };
	my $writer = wait_until { ($broken->children('journal'))[0] };
	is($get->()->{tallyd_journal_failed}, 0, 'a journal is sound');
	kill 'STOP', $broken->pid;
	my $strace = fail_calls($writer->{pid}, 'fdatasync', 'EIO');
	# An idle writer syncs its last mark: that may have failed already.
	my $taken = $broken->event('a', 1)->{status} == 200;
	my $now;
	ok(wait_until { ($now = $get->())->{tallyd_journal_failed} }, 'and fails, which is told');
	my $refused = 0;
	$refused += (until_status($broken, 503, 1))[0] for 1 .. 3;
	is($refused, 3, 'then nothing is taken');
	is(events($get->(), 'rejected', 'journal_failed'), $refused + !$taken, 'and each time was counted');
	kill 'CONT', $broken->pid;
	is($broken->wait_exit, 1, 'it ends');
	let_go($strace);
	return;
}

# ---- whoever answers

sub test_same {
	my (@sockets, %answered, @pages);
	# Which worker takes a connection is up to the kernel and them.
	while (@sockets < 6 || (keys %answered < 2 && @sockets < 60)) {
		push @sockets, my $socket = $tallyd->connection;
		my $one = metrics(connection => $socket);
		my $two = metrics(connection => $socket);
		my ($slot) = grep { my $name = qq(tallyd_worker_requests_total{slot="$_"}); ($two->{$name} || 0) - ($one->{$name} || 0) == 1 } 2 .. 9;
		$answered{$slot}++;
		push @pages, join "\n", map { "$_ $two->{$_}" } sort grep { /^tallyd_(?:events_total|accounts|ids|holds|group|answers_lost)/ } keys %$two;
	}
	is(scalar keys %answered, 2, 'both workers were asked') or diag(explain(\%answered));
	my %different = map { $_ => 1 } @pages;
	is(scalar keys %different, 1, 'and say the same');
	my $now = metrics();
	my $connections = 0;
	$connections += $now->{$_} for grep { /^tallyd_connections\{.*"(?:idle|reading|serving|streaming|waiting|writing|closing)"\}$/ } keys %$now;
	cmp_ok($connections, '>=', 6, 'of the connections, each is counted once');
	cmp_ok(sum({ map { $_ => $now->{$_} } grep { /state="idle"/ } keys %$now }, 'tallyd_connections'), '>=', 6, 'as idle');
	send_all($sockets[0], "POST /events HTTP/1.1\r\nHost: a\r\nContent-Le");
	ok(wait_until { $now = metrics(); grep { /state="reading"/ && $now->{$_} == 1 } keys %$now }, 'or as reading');
	return;
}

sub test_feed {
	my $before = metrics();
	my $socket = $tallyd->connection;
	send_all($socket, "GET /feed?format=ndjson HTTP/1.1\r\nHost: a\r\n\r\n");
	my $now;
	ok(wait_until { $now = metrics(); 1 == grep { /^tallyd_connections\{.*state="streaming"/ && $now->{$_} == 1 } keys %$now },
		'a feed is a connection that streams');
	$tallyd->event('b', -1);
	ok(wait_until { $now = metrics(); $now->{tallyd_feed_blocks_total} > $before->{tallyd_feed_blocks_total} }, 'what it is given is counted');
	close $socket;
	ok(wait_until { $now = metrics(); requests($now, 'GET', '/feed', 200) == 1 }, 'and so is the request, once it is over');
	is($now->{tallyd_stream_seconds_count} - $before->{tallyd_stream_seconds_count}, 1, 'with its time');
	adds_up($now, 'after a feed');
	return;
}

# ---- whoever dies

# Posts until it is told to stop; returns how many were acknowledged.
sub load {
	my ($until) = @_;
	my ($socket, $good) = (undef, 0);
	while (time < $until) {
		$socket ||= eval { $tallyd->connection } or next;
		my $answer = eval { $tallyd->event('b', $good % 2 ? 1 : -1, connection => $socket) };
		$answer ? $good += $answer->{status} == 200 : undef $socket;
	}
	return $good;
}

# What may only grow.
sub growing { my ($now) = @_; return grep { /_total(?:\{|$)|_(?:count|sum)$|_bucket\{/ } keys %$now }

sub test_death {
	my $before = metrics();
	my $end = time + LOAD_SECONDS;
	my @children;
	for (1 .. 2) {
		pipe my $read, my $write or die "pipe: $!";
		my $pid = fork;
		die "fork: $!" unless defined $pid;
		if ($pid == 0) {
			syswrite $write, load($end + 0.5) . "\n";
			POSIX::_exit(0);
		}
		push @children, { pid => $pid, read => $read };
	}
	my ($last, %killed, @fallen) = ($before);
	while (time < $end) {
		my $now = eval { metrics() } or next;
		push @fallen, grep { ($now->{$_} || 0) < $last->{$_} } growing($last);
		$last = $now;
		my ($victim) = grep { !$killed{$_} } map { $_->{pid} } $tallyd->children('worker');
		kill 'KILL', $victim if $victim && keys %killed < 3 && ++$killed{$victim};
	}
	my $acknowledged = 0;
	for (@children) {
		$acknowledged += readline $_->{read};
		waitpid $_->{pid}, 0;
	}
	is_deeply(\@fallen, [], 'no counter ever falls while workers are killed');
	cmp_ok($acknowledged, '>', 0, 'clients were served meanwhile');
	use_daemon($tallyd);
	my $now;
	is(scalar keys %killed, 3, 'three workers were killed');
	ok(wait_until { $now = metrics(); $now->{'tallyd_respawns_total{role="worker"}'} == 3 }, 'and replaced')
		or diag($now->{'tallyd_respawns_total{role="worker"}'});
	wait_until { ($now = metrics())->{tallyd_answers_waiting} == 0 };
	is($now->{tallyd_answers_waiting}, 0, 'no answer is waited for in the end');
	adds_up($now, 'after deaths');
	cmp_ok(events($now, 'accepted', '') - events($before, 'accepted', ''), '>=', $acknowledged, 'what was acknowledged was counted');
	is($now->{tallyd_accounts}, scalar listed(), 'the accounts are those that are there');
	my ($writer) = map { $_->{pid} } $tallyd->children('journal');
	is(kill('KILL', $writer || 0), 1, 'the journal writer is killed');
	ok(wait_until { ($now = metrics())->{'tallyd_respawns_total{role="journal"}'} == 1 }, 'and replaced, too');
	return;
}

# The names of all accounts.
sub listed {
	my (@names, $path);
	for ($path = '/accounts?limit=100'; defined $path;) {
		my $answer = call('GET', $path);
		push @names, map { $_->{account} } @{ $answer->{json}{accounts} };
		$path = $answer->{json}{next};
	}
	return @names;
}

# ---- the master's

sub test_life {
	my $now;
	# A snapshot is due after so much journal.
	send_all(my $socket = $tallyd->connection, join '', map { "$_\n" } "POST /events HTTP/1.1\r", "Host: a\r",
		"Content-Type: application/x-ndjson\r", 'Content-Length: ' . 28 * 1000 . "\r", "\r",
		map { '{"account":"b","amount":-1}' } 1 .. 1000);
	read_response($socket)->{status} == 200 or die 'no events';
	ok(wait_until { $now = metrics(); $now->{'tallyd_snapshots_total{result="written"}'} > 0 && $now->{tallyd_snapshot_lsn} > 0 }, 'a snapshot was written');
	cmp_ok($now->{tallyd_snapshot_age_seconds}, '<', 120, 'not long ago');
	ok(wait_until {
		$now = metrics();
		my @files = glob $tallyd->data_dir . '/journal/*.journal';
		my $bytes = 0;
		$bytes += 512 * (stat)[12] for @files;
		$now->{tallyd_journal_segments} == @files && $now->{tallyd_journal_bytes} == $bytes;
	}, 'the journal is as large as its files');
	is($now->{tallyd_journal_first_lsn}, 4096, 'from its beginning on');
	like(page(), qr/^tallyd_build_info\{version="[\d.]+[^"]*",compiler="(?:gcc|clang) [^"]+"\} 1$/m, 'who made it');
	cmp_ok(abs($now->{process_start_time_seconds} + $now->{tallyd_uptime_seconds} - time), '<', 5, 'when it began');
	$tallyd->hup;
	ok(wait_until { eval { $now = metrics(); $now->{'tallyd_reloads_total{result="done"}'} == 1 } }, 'a reload is counted');
	wait_until { $tallyd->log_text =~ /reloaded:/ };
	$tallyd->write_config('nonsense');
	$tallyd->hup;
	ok(wait_until { $now = metrics(); $now->{'tallyd_reloads_total{result="failed"}'} == 1 }, 'and one that failed');
	$tallyd->write_config;
	return;
}

sub test_restart {
	my @tables = qw(tallyd_accounts tallyd_account_slots tallyd_ids tallyd_holds);
	my $before = metrics();
	is($tallyd->stop, 0, 'it drains');
	$tallyd->start_again;
	use_daemon($tallyd);
	my $after = metrics();
	is_deeply([@{$after}{@tables}], [@{$before}{@tables}], 'a new run counts what it has recovered');
	ok(exists $after->{tallyd_snapshot_age_seconds}, 'and knows how old its snapshot is');
	is(events($after, 'accepted', ''), 0, 'its counters begin anew');
	return;
}

test_page();
test_exact();
test_requests();
test_promtool();
test_manual();
test_durable();
test_full();
test_queue_full();
test_disk();
test_same();
test_feed();
test_death();
test_life();
test_restart();
is($tallyd->stop, 0, 'drained');
done_testing();
