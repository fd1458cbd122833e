#!/usr/bin/perl
# More than can be taken: events, connections, descriptors, bytes, and clients that are too slow.  All
# of it is refused by name, at once and in bounded memory, and nobody else waits for it.

use strict;
use warnings;

use Errno ();
use FindBin;
use POSIX ();
use Socket qw(SOL_SOCKET SO_RCVBUF MSG_NOSIGNAL);
use Test::More;
use Time::HiRes qw(time sleep);

use lib "$FindBin::RealBin/lib";
use Tallyd qw(wait_until slurp send_all read_response patience);

my $EVENTS = $ENV{TALLYD_TEST_EVENTS} || 1000;    # sent at once
my $IDLE   = $ENV{TALLYD_TEST_IDLE} || 2000;      # idle connections

use constant {
	PROMPTLY    => 5,       # seconds for what does not have to wait
	DELAY       => 500,     # milliseconds of a group commit
	QUEUE       => 100,     # events
	REFUSED_MAX => 100,     # milliseconds in the server of any refusal
	REFUSED_MED => 10,      # and of the one in the middle
	IDLE_MAX    => 2048,    # bytes of a worker's memory per idle connection
	BUSY_MAX    => 0.1,     # share of a CPU of a worker whose listeners are paused
	BUFFERS     => 4,       # bodies of 200 kB in 1 MiB of buffers, each a power of two
	FILES       => 256,     # descriptors of this test, besides its connections
};

# A shell can raise the limit of descriptors, Perl cannot.
if (!$ENV{TALLYD_TEST_FILES_RAISED}) {
	$ENV{TALLYD_TEST_FILES_RAISED} = 1;
	my $files = FILES + ($EVENTS > $IDLE ? $EVENTS : $IDLE);
	exec 'sh', '-c', "test \$(ulimit -n) -ge $files || ulimit -n $files || ulimit -n \$(ulimit -Hn)"
		. '; exec "$@"', 'sh', $^X, map({ "-I$_" } grep { !ref } @INC), $0, @ARGV
		or die "cannot run sh: $!";
}
chomp(my $files = `sh -c 'ulimit -n'`);

sub event_text {
	my ($account, $amount) = @_;
	my $body = qq({"account":"$account","amount":$amount});
	return "POST /events HTTP/1.1\r\nHost: t\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

# Waits until the journal writer has written nothing for longer than a group commit takes.
sub quiet {
	my ($tallyd) = @_;
	# It takes its name a moment after its birth.
	my $journal = wait_until { ($tallyd->children('journal'))[0] } PROMPTLY;
	my ($last, $since) = ('', time);
	wait_until {
		my ($now) = slurp("/proc/$journal->{pid}/io") =~ /^syscw: (\d+)/m;
		($last, $since) = ($now, time) if $now ne $last;
		time - $since > 1.5 * DELAY / 1000;
	} 20 or die 'the journal never rests';
	return;
}

# Sends REQUEST on each of COUNT connections at once; the answers, each with how long after the
# first was sent it was read.
sub burst {
	my ($tallyd, $count, $request) = @_;
	my @sockets = map { $tallyd->connection } 1 .. $count;
	my $start = time;
	send_all($_, $request) for @sockets;
	my %waiting = map { fileno($_) => $_ } @sockets;
	my @answers;
	my $end = time + 30 * patience();
	while (%waiting && time < $end) {
		my $bits = '';
		vec($bits, $_, 1) = 1 for keys %waiting;
		next unless select($bits, undef, undef, 1) > 0;
		for my $fd (grep { vec $bits, $_, 1 } keys %waiting) {
			my $answer = eval { read_response($waiting{$fd}) } || { status => 'none' };
			push @answers, { %$answer, after => time - $start };
			delete $waiting{$fd};
		}
	}
	return @answers;
}

# What was refused, is refused by the book.
sub check_refusals {
	my (@refused) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %bad;
	for (@refused) {
		my $retry = $_->{headers}{'retry-after'};
		$bad{"Retry-After: " . ($retry // 'missing')} = 1 unless ($retry // '') =~ /^[1-9]\d*\z/;
		$bad{ $_->{body} } = 1
			unless $_->{json}{status} eq 'rejected' && $_->{json}{reason} eq 'queue_full';
	}
	is_deeply(\%bad, {}, 'every refusal is queue_full with a Retry-After of whole seconds');
	return;
}

sub cpu_seconds {
	my ($pid) = @_;
	my @field = split ' ', slurp("/proc/$pid/stat") =~ s/^.*\) //sr;
	return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

sub memory {
	my (@pids) = @_;
	my $sum = 0;
	for my $pid (@pids) {
		my ($dirty) = slurp("/proc/$pid/smaps_rollup") =~ /^Private_Dirty:\s+(\d+) kB/m;
		$sum += 1024 * $dirty;
	}
	return $sum;
}

sub resident { return 1024 * (slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+) kB/m)[0] }

sub is_sanitized { return slurp("/proc/$_[0]/maps") =~ /libasan|libubsan/ }

sub worker { return ($_[0]->children('worker'))[0]{pid} }

# True if something can be read from SOCKET, or its end.
sub readable {
	my ($socket) = @_;
	my $bits = '';
	vec($bits, fileno $socket, 1) = 1;
	return select($bits, undef, undef, 0) > 0;
}

# Sends PIECES one by one with PAUSE seconds between them until an answer or the end comes:
# (answer or undef, seconds since the first byte).
sub drip {
	my ($socket, $pause, @pieces) = @_;
	my $start = time;
	while (@pieces) {
		last unless defined send $socket, shift @pieces, MSG_NOSIGNAL;
		my $bits = '';
		vec($bits, fileno $socket, 1) = 1;
		last if select($bits, undef, undef, $pause) > 0;
	}
	my $answer = eval { read_response($socket) };
	return ($answer, time - $start);
}

sub between {
	my ($got, $least, $most, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($got >= $least && $got <= $most * patience(),
		sprintf '%s: after %.2f s (%s to %s)', $what, $got, $least, $most);
}

subtest 'more events at once than may wait' => sub {
	my $tallyd = Tallyd->start(config => { workers => 2, queue_events => QUEUE, journal_delay => DELAY,
		access_log => undef });
	my $log = $tallyd->dir . '/access';
	$tallyd->set_config(access_log => $log);
	$tallyd->stop;
	$tallyd->start_again;
	quiet($tallyd);
	my @answers = burst($tallyd, $EVENTS, event_text('crowd', 1));
	my @accepted = grep { $_->{status} eq 200 } @answers;
	my @refused = grep { $_->{status} eq 503 } @answers;
	is(@accepted + @refused, $EVENTS, "$EVENTS events: " . @accepted . ' accepted, ' . @refused . ' refused');
	check_refusals(@refused);
	# A group commit takes DELAY and more, which says how many there can have been.
	my ($last) = sort { $b <=> $a } map { $_->{after} } @accepted;
	my $groups = int($last / (DELAY / 1000) + 0.01);
	cmp_ok(scalar @accepted, '<=', QUEUE * $groups, 'never more than ' . QUEUE . " waited (groups: $groups)");
	cmp_ok(scalar @accepted, '>=', QUEUE, 'but so many did');
	is($tallyd->balance('crowd'), scalar @accepted, 'the balance is the number accepted');
	my ($counted) = $tallyd->request('GET', '/metrics')->{body} =~ /^tallyd_events_total\{outcome="rejected",reason="queue_full"\} (\d+)$/m;
	is($counted, scalar @refused, 'the metrics count the refused ones');

	# What the server says itself, free of how fast this client reads.
	is($tallyd->stop, 0, 'it stops');
	my (@quick, @slow);
	my $lines = slurp($log);
	while ($lines =~ m{"POST /events HTTP/1\.1" (\d+) .*?(\d+)$}mg) {
		push @{ $1 == 503 ? \@quick : \@slow }, $2 / 1000;
	}
	is(@quick, @refused, 'each refusal has its line in the access log');
	@quick = sort { $a <=> $b } @quick;
	cmp_ok($quick[-1], '<', REFUSED_MAX * patience(), "the slowest refusal took milliseconds");
	cmp_ok($quick[ @quick / 2 ], '<', REFUSED_MED * patience(), 'most of them hardly any time');
	my $waited = grep { $_ > $quick[-1] } @slow;
	cmp_ok($waited, '>=', 0.9 * @slow, 'what was accepted took longer than any refusal');
};

subtest 'the same, pipelined' => sub {
	my $tallyd = Tallyd->start(config => { queue_events => QUEUE, journal_delay => DELAY });
	my @sockets = map { $tallyd->connection } 1 .. 20;
	my $each = int($EVENTS / @sockets);
	send_all($_, event_text('line', 1) x $each) for @sockets;
	my (%count, @refused);
	for my $socket (@sockets) {
		for (1 .. $each) {
			my $answer = read_response($socket, deadline => 30);
			$count{ $answer->{status} }++;
			push @refused, $answer if $answer->{status} == 503;
		}
	}
	is($count{200} + $count{503}, $each * @sockets, 'each event has its answer');
	cmp_ok($count{503}, '>', 0, 'some were refused');
	check_refusals(@refused);
	is($tallyd->balance('line'), $count{200}, 'the balance is the number accepted');
	burst($tallyd, QUEUE + 50, event_text('line', 1));
	wait_until { $tallyd->request('GET', '/healthz')->{status} == 200 } PROMPTLY;
	is($tallyd->request('GET', '/healthz')->{status}, 200, 'and then it is healthy again');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'more bytes than the ring holds' => sub {
	my $tallyd = Tallyd->start(config => { ring_size => '64K', journal_delay => DELAY });
	my @answers = burst($tallyd, $EVENTS, event_text('x' x 90, 1));
	my $accepted = grep { $_->{status} eq 200 } @answers;
	my @refused = grep { $_->{status} eq 503 } @answers;
	is($accepted + @refused, $EVENTS, "$EVENTS events: $accepted accepted, " . @refused . ' refused');
	cmp_ok(scalar @refused, '>', 0, 'the ring was full');
	check_refusals(@refused);
	is($tallyd->balance('x' x 90), $accepted, 'the balance is the number accepted');
	is($tallyd->event('x' x 90, 1)->{status}, 200, 'and then there is room again');
	is($tallyd->stop, 0, 'it stops');
};

# One connection more than there is place for: it waits at no cost, and is served when one ends.
sub one_too_many {
	my ($tallyd, $pid, @open) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $next = $tallyd->connection;
	send_all($next, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
	my ($cpu, $start) = (cpu_seconds($pid), time);
	ok(!eval { read_response($next, deadline => 1 / patience()) } && $@ =~ /timeout/, 'one more waits');
	my $share = (cpu_seconds($pid) - $cpu) / (time - $start);
	cmp_ok($share, '<', BUSY_MAX, 'while the worker rests');
	for (@open) {
		my $answer = $tallyd->event('open', 1, connection => $_);
		is($answer->{status}, 200, 'those that are open are served') or last;
	}
	close pop @open;
	my $answer = eval { read_response($next) };
	is($answer && $answer->{status}, 200, 'when one closes, it is served');
	return;
}

subtest 'max_connections' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, max_connections => 10 });
	wait_until { my $answer = $tallyd->event('open', 1); $answer->{status} == 200 } PROMPTLY;
	my @open = map { $tallyd->connection } 1 .. 10;
	$tallyd->event('open', 1, connection => $_) for @open;
	one_too_many($tallyd, worker($tallyd), @open);
	like($tallyd->log_text, qr/not accepting connections.*max_connections/, 'the log tells');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'no descriptors left' => sub {
	my ($prlimit) = grep { -x } map { "$_/prlimit" } split /:/, $ENV{PATH};
	plan skip_all => 'no prlimit(1)' unless $prlimit;
	my $tallyd = Tallyd->start(config => { workers => 1 });
	my $pid = worker($tallyd);
	my @open = map { $tallyd->connection } 1 .. 5;
	$tallyd->event('open', 1, connection => $_) for @open;
	my ($highest) = sort { $b <=> $a } map { m{(\d+)$} } glob "/proc/$pid/fd/*";
	is(system($prlimit, '--pid', $pid, '--nofile=' . ($highest + 1)), 0, 'the worker has what it has');
	# It may have closed lower ones: what it can still take, it takes.
	my $none_left = sub { $tallyd->log_text =~ /not accepting connections.*open files/ };
	while (@open < FILES / 2) {
		my $extra = $tallyd->connection;
		send_all($extra, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
		# It takes connections in their order, and says so when it cannot take this one; but what it had
		# open only for a moment then may be free again, and it tries again after a pause.
		my $tired;
		wait_until { $tired ||= time + 2 if $none_left->(); readable($extra) || ($tired && time > $tired) } PROMPTLY;
		last unless readable($extra);
		read_response($extra);
		push @open, $extra;
	}
	one_too_many($tallyd, $pid, @open);
	ok($none_left->(), 'the log tells');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'clients that are too slow' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, header_timeout => 1, body_timeout => 1,
		body_rate => 1000, idle_timeout => 1.5, write_timeout => 1 });
	my ($answer, $took) = drip($tallyd->connection, 0.05,
		split //, "GET / HTTP/1.1\r\nHost: t\r\nX: " . 'x' x 500);
	is($answer->{status}, 408, 'a header byte by byte: 408');
	is($answer->{json}{reason}, 'header_timeout', '... header_timeout');
	between($took, 0.95, 3, '... in total, not per byte');

	my $head = "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4000\r\n\r\n";
	($answer, $took) = drip($tallyd->connection, 0.05, $head, ('x' x 10) x 400);
	is($answer->{status}, 408, 'a body slower than body_rate: 408');
	is($answer->{json}{reason}, 'body_timeout', '... body_timeout');
	between($took, 0.95, 4, '... body_timeout and what the rate earned');
	($answer, $took) = drip($tallyd->connection, 0.05, $head, ('x' x 100) x 40);
	is($answer->{status}, 200, 'a body that is faster may take longer');
	cmp_ok($took, '>', 1.5, '... than body_timeout');

	my $start = time;
	ok($tallyd->closed($tallyd->connection, 10), 'a connection without a request is closed');
	between(time - $start, 1.4, 4, '... at idle_timeout');
	my $idle = $tallyd->connection;
	$tallyd->event('idle', 1, connection => $idle);
	$start = time;
	ok($tallyd->closed($idle, 10), 'a connection between two requests is closed');
	between(time - $start, 1.4, 4, '... at idle_timeout');

	my $deaf = $tallyd->connection;
	setsockopt $deaf, SOL_SOCKET, SO_RCVBUF, 4096;
	my $echo = "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 50000\r\n\r\n" . 'e' x 50_000;
	my $sent = 0;
	my ($begun, $stuck) = (time, time);
	my $cut = wait_until {
		my $got = send $deaf, substr($echo, $sent % length $echo), MSG_NOSIGNAL;
		($sent, $stuck) = ($sent + $got, time) if $got;
		return !defined $got && !$!{EAGAIN};
	} 20;
	cmp_ok($sent, '>', length $echo, 'a client that sends and does not read');
	ok($cut, '... is cut');
	cmp_ok(time - $begun, '>=', 0.95, '... not before write_timeout');
	between(time - $stuck, 0, 5, '... and soon after it');
	like($tallyd->log_text, qr/refused: clients too slow/, 'the log tells');
	is($tallyd->request('GET', '/healthz')->{status}, 200, 'others are served');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'more bytes than buffer_memory' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, buffer_memory => '1M', max_body => '256K' });
	my $pid = worker($tallyd);
	my $before = resident($pid);
	my $part = "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 250000\r\n\r\n" . 'b' x 200_000;
	my @sockets = map { $tallyd->connection } 1 .. 64;
	my @left = ($part) x @sockets;
	my $busy = 0;
	my $most = 0;
	my %refused;
	wait_until {
		for my $i (0 .. $#sockets) {
			next if $refused{$i};
			my $got = length $left[$i] ? send $sockets[$i], $left[$i], MSG_NOSIGNAL : undef;
			substr $left[$i], 0, $got, '' if $got;
			my $bits = '';
			vec($bits, fileno $sockets[$i], 1) = 1;
			next unless select($bits, undef, undef, 0) > 0;
			$refused{$i} = eval { read_response($sockets[$i]) } || { status => "none: $@" };
		}
		my $now = resident($pid);
		$most = $now if $now > $most;
		keys %refused >= @sockets - BUFFERS;
	} 10;
	my %why;
	$why{ $_->{status} . ' ' . ($_->{json}{reason} // '') }++ for values %refused;
	is_deeply([keys %why], ['503 busy'], 'what has no room is refused: busy');
	cmp_ok(scalar keys %refused, '>=', @sockets - BUFFERS, 'all but those that fit');
	is_deeply([grep { ($_->{headers}{'retry-after'} // '') !~ /^[1-9]\d*\z/ } values %refused], [],
		'with a Retry-After');
	SKIP: {
		skip 'a sanitizer uses memory of its own', 1 if is_sanitized($pid);
		cmp_ok($most - $before, '<', 3 * 1024 * 1024, 'within 1 MiB of buffers and little else');
	}
	close $_ for @sockets;
	ok((wait_until { eval { $tallyd->event('after', 1)->{status} == 200 } } PROMPTLY), 'then there is room again');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'requests that are too large' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, max_body => '64K' });
	my $host = "HTTP/1.1\r\nHost: t\r\n";
	for (
		[413, 'a Content-Length above max_body', "POST /echo ${host}Content-Length: 65537\r\n\r\n"],
		[413, 'chunks above max_body', "POST /echo ${host}Transfer-Encoding: chunked\r\n\r\n"
			. ("8000\r\n" . 'c' x 0x8000 . "\r\n") x 3],
		[414, 'a request line above 8 KiB', 'GET /' . 'p' x 8200 . " $host\r\n"],
		[431, 'a header above 16 KiB', "GET / ${host}X: " . 'h' x 17_000 . "\r\n\r\n"],
		[431, 'more than 64 fields', "GET / $host" . "X: y\r\n" x 64 . "\r\n"],
	) {
		my ($status, $what, $request) = @$_;
		my $socket = $tallyd->connection;
		send_all($socket, $request);
		is(read_response($socket)->{status}, $status, "$what: $status");
		ok($tallyd->closed($socket, PROMPTLY), '... and the connection ends');
	}
	my $answer = $tallyd->request('POST', '/echo', {}, 'm' x 65_536);
	is($answer->{status} . ' ' . length $answer->{body}, '200 65536', 'just max_body is fine');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'memory of an idle connection' => sub {
	my $tallyd = Tallyd->start(config => { workers => 2 });
	my @pids = map { $_->{pid} } $tallyd->children('worker');
	plan skip_all => 'a sanitizer uses memory of its own' if is_sanitized($pids[0]);
	my $most = $files =~ /^\d+$/ && $files - FILES < $IDLE ? $files - FILES : $IDLE;
	# What the first requests touch is not an idle connection's.
	burst($tallyd, 100, event_text('idle', 1));
	my $before = memory(@pids);
	my @sockets = map { $tallyd->connection } 1 .. $most;
	my $served = 0;
	for (@sockets) {
		send_all($_, "GET /accounts/idle HTTP/1.1\r\nHost: t\r\n\r\n");
		$served++ if read_response($_)->{status} == 200;
	}
	is($served, $most, "$most connections, each served once");
	my $each = (memory(@pids) - $before) / $most;
	cmp_ok($each, '<=', IDLE_MAX, sprintf 'idle, each costs %d bytes', $each);
	is($tallyd->event('idle', 1)->{status}, 200, 'another one is served');
	close $_ for @sockets;
	is($tallyd->stop, 0, 'it stops');
};

subtest 'who waits keeps nobody waiting' => sub {
	my $tallyd = Tallyd->start(config => { workers => 2, diagnostics => 'true' });
	my ($stopped) = $tallyd->children('worker');
	kill 'STOP', $stopped->{pid};
	wait_until { slurp("/proc/$stopped->{pid}/stat") =~ /\) T/ } PROMPTLY;
	my $start = time;
	my $good = grep { $tallyd->event('stopped', 1)->{status} == 200 } 1 .. 50;
	is($good, 50, 'a stopped worker: the other one serves');
	cmp_ok(time - $start, '<', 5 * patience(), '... without delay');
	kill 'CONT', $stopped->{pid};
	is($tallyd->stop, 0, 'it stops');

	$tallyd->set_config(workers => 1);
	$tallyd->start_again;
	my ($sleeper, $other) = map { $tallyd->connection } 1, 2;
	$start = time;
	send_all($sleeper, "GET /sleep?ms=1500 HTTP/1.1\r\nHost: t\r\n\r\nGET /fast HTTP/1.1\r\nHost: t\r\n\r\n");
	my $answered = 0;
	for (1 .. 10) {
		$tallyd->request('GET', '/fast', undef, undef, connection => $other);
		$answered++ unless readable($sleeper);
	}
	# All ten, unless the machine stood still.
	cmp_ok($answered, '>', 0, 'beside a GET /sleep others are answered, before it');
	is(read_response($sleeper)->{json}{slept_ms}, 1500, 'it sleeps');
	cmp_ok(time - $start, '>=', 1.49, '... as long as it should');
	is(read_response($sleeper)->{status}, 200, 'what was pipelined behind it comes next');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'sync = interval' => sub {
	my $tallyd = Tallyd->start(config => { sync => 'interval', sync_interval => 200 });
	my $client = $tallyd->connection;
	my $good = grep { $tallyd->event('soon', 1, connection => $client)->{status} == 200 } 1 .. 200;
	is($good, 200, 'events are taken');
	$tallyd->kill9;
	$tallyd->start_again;
	is($tallyd->balance('soon'), 200, 'a killed daemon loses none of them');
	is($tallyd->stop, 0, 'it stops');
};

done_testing();
