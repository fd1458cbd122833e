#!/usr/bin/perl
# HTTP/1.1 over sockets: the corpus whole, byte by byte and split at every offset; pipelines;
# the methods and fields that are answered specially; slow clients beside quick ones.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Tallyd qw(patience read_response send_all source_dir wait_until);
use Test::More;
use Time::HiRes qw(time);

use constant {
	TCP           => 0,      # the index of the listener
	UNIX          => 1,
	AT_ONCE       => 64,     # connections open side by side
	SPLIT_MAX     => 400,    # bytes of a request that is split at every offset
	HALF_SENT     => 200,
	QUICK_ANSWERS => 100,
	QUICK_MEDIAN  => 0.1,    # seconds
	QUICK_WORST   => 2,      # seconds: a scheduler's whim, but not a client's
};

# Follows every request that keeps its connection, to see where the daemon thinks that it ended.
my $next_request = "GET /healthz HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n";

# No client here is slow on purpose, but sending byte by byte may take a busy machine its time.
my $tallyd = Tallyd->start(
	config => { diagnostics => 'true', header_timeout => 60, body_timeout => 60 },
	listen => [['127.0.0.1:0', { protocol => 'http' }], ['unix:%DIR%/socket', { protocol => 'http' }]],
);

# ---- the corpus

sub unescape {
	my ($text) = @_;
	my %plain = (r => "\r", n => "\n", t => "\t", 0 => "\0", '\\' => '\\');
	$text =~ s/\\(?:x([0-9a-f]{2})|(.))/defined $1 ? chr hex $1 : $plain{$2}/ge;
	return $text;
}

sub read_corpus {
	my @entries;
	my $path = source_dir() . '/t/http-corpus.txt';
	open my $file, '<', $path or die "cannot read $path: $!";
	while (my $line = <$file>) {
		chomp $line;
		next if $line eq '' || $line =~ /^#/;
		if ($line =~ /^refuse (\d+) \S+ (\S+) (\S+)$/) {
			push @entries, { name => $3, status => $1, reason => $2, bytes => '' };
		} elsif ($line =~ /^accept (\S+) (\S+)$/) {
			push @entries, { name => $2, status => $1, accepted => 1, bytes => '', expected => {} };
		} elsif ($line =~ /^<(?:(\d+)\*)? (.*)$/) {
			$entries[-1]{bytes} .= unescape($2) x (defined $1 ? $1 : 1);
		} elsif ($line =~ /^= (\S+)(?: (.*))?$/) {
			$entries[-1]{expected}{$1} = unescape(defined $2 ? $2 : '');
		} else {
			die "$path: line $. cannot be read: $line";
		}
	}
	return map { complete($_) } @entries;
}

# What the daemon does with ENTRY, so that its answers can be counted.
sub complete {
	my ($entry) = @_;
	($entry->{method}) = $entry->{bytes} =~ /^(?:\r\n)*(\S+)/;
	my $keeps = $entry->{accepted} && $entry->{status} ne '501'
		&& ($entry->{expected}{keep_alive} // 1);
	$entry->{answers} = $keeps ? 2 : 1;
	$entry->{sent} = $entry->{bytes} . ($entry->{accepted} ? $next_request : '');
	return $entry;
}

# ---- connections

sub connection {
	my ($listener) = @_;
	my $socket = $tallyd->raw_socket($listener);
	setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if $listener == TCP;
	return $socket;
}

# The daemon may have answered and closed before all is sent: that is no error of the sending.
sub send_some {
	my ($socket, $bytes) = @_;
	eval { send_all($socket, $bytes); 1 } or $@ =~ /^cannot send: (?:Broken pipe|Connection reset)/
		or die $@;
	return;
}

# Returns once the daemon has had occasion to read what was sent before.
my $barrier = connection(TCP);
sub barrier { return $tallyd->request('GET', '/healthz', undef, undef, connection => $barrier) }

# All answers on SOCKET up to its end.
sub answers {
	my ($socket, $method) = @_;
	my @answers;
	while (my $answer = read_response($socket, method => @answers ? 'GET' : $method)) {
		push @answers, $answer;
	}
	close $socket;
	return \@answers;
}

# What must not depend on how the bytes came: the interim answers may, and the time of day does.
sub essence {
	my ($answers) = @_;
	return join ' | ', map {
		my $what = ref $_->{json} eq 'HASH' && $_->{json}{reason} || '';
		$what = $_->{body} if ($_->{headers}{'content-type'} || '') !~ /json/;
		"$_->{status} $what";
	} @$answers;
}

sub whole {
	my ($entry) = @_;
	my $socket = connection(TCP);
	send_some($socket, $entry->{sent});
	return answers($socket, $entry->{method});
}

sub status_is {
	my ($got, $wanted) = @_;
	(my $pattern = $wanted) =~ s/x/\\d/g;
	return $got =~ /^$pattern$/;
}

sub test_refused {
	my ($entry, $answers) = @_;
	my $answer = $answers->[0];
	return fail("$entry->{name}: refused with an answer") unless $answer;
	my $reason = ref $answer->{json} eq 'HASH' ? $answer->{json}{reason} : undef;
	return ok(@$answers == 1 && $answer->{status} == $entry->{status}
			&& defined $reason && $reason eq $entry->{reason}
			&& lc($answer->{headers}{connection} || '') eq 'close',
		"$entry->{name}: $entry->{status} $entry->{reason}, and closed") || diag(essence($answers));
}

sub test_accepted {
	my ($entry, $answers) = @_;
	my $good = @$answers == $entry->{answers} && status_is($answers->[0]{status}, $entry->{status});
	$good &&= $answers->[1]{status} == 200 if $entry->{answers} == 2;
	my $body = $entry->{expected}{body};
	my $echoed = $entry->{status} eq '200' && $entry->{method} eq 'POST' && defined $body;
	$good &&= $answers->[0]{body} eq $body if $echoed;
	return ok($good, "$entry->{name}: $entry->{status}, and "
			. ($entry->{answers} == 2 ? 'the next one is answered' : 'closed'))
		|| diag(essence($answers));
}

sub test_whole {
	for my $entry (@_) {
		my $answers = eval { whole($entry) } || [];
		diag($@) if $@;
		$entry->{accepted} ? test_accepted($entry, $answers) : test_refused($entry, $answers);
		$entry->{essence} = essence($answers);
	}
	return;
}

# Many entries side by side, a byte of each in turn.
sub test_byte_by_byte {
	my (@entries) = grep { length $_->{sent} <= 2 * SPLIT_MAX } @_;
	while (my @batch = splice @entries, 0, AT_ONCE) {
		my @sockets = map { connection(TCP) } @batch;
		my $at = 0;
		while (my @open = grep { $at < length $batch[$_]{sent} } 0 .. $#batch) {
			send_some($sockets[$_], substr $batch[$_]{sent}, $at, 1) for @open;
			barrier();
			$at++;
		}
		for my $i (0 .. $#batch) {
			my $answers = eval { answers($sockets[$i], $batch[$i]{method}) } || [];
			is(essence($answers), $batch[$i]{essence}, "$batch[$i]{name}: the same byte by byte");
		}
	}
	return;
}

# One entry at many offsets side by side.
sub test_splits {
	my ($entry) = @_;
	my @offsets = 1 .. length($entry->{bytes}) - 1;
	my @different;
	while (my @batch = splice @offsets, 0, AT_ONCE) {
		my @sockets = map { connection(UNIX) } @batch;
		send_some($sockets[$_], substr $entry->{sent}, 0, $batch[$_]) for 0 .. $#batch;
		barrier();
		send_some($sockets[$_], substr $entry->{sent}, $batch[$_]) for 0 .. $#batch;
		for my $i (0 .. $#batch) {
			my $got = essence(eval { answers($sockets[$i], $entry->{method}) } || []);
			push @different, "at $batch[$i]: $got" if $got ne $entry->{essence};
		}
	}
	ok(!@different, "$entry->{name}: the same split at any offset")
		|| diag("whole: $entry->{essence}\n" . join "\n", @different);
	return;
}

# ---- what is answered

sub test_pipeline {
	my $socket = connection(TCP);
	my (@kinds, $bytes);
	for my $i (1 .. 100) {
		my $kind = (qw(echo chunked missing head))[$i % 4];
		push @kinds, [$kind, "body $i"];
		my $length = length "body $i";
		$bytes .= $kind eq 'echo' ? "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: $length\r\n\r\nbody $i"
			: $kind eq 'chunked' ? "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
				. "5\r\nbody \r\n" . ($length - 5) . "\r\n$i\r\n0\r\n\r\n"
			: $kind eq 'missing' ? "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
			: "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
	}
	send_all($socket, $bytes);
	my $good = 0;
	for (@kinds) {
		my ($kind, $body) = @$_;
		my $answer = read_response($socket, method => $kind eq 'head' ? 'HEAD' : 'GET') or last;
		my $status = $kind eq 'missing' ? 404 : 200;
		my $same = $kind =~ /echo|chunked/ ? $answer->{body} eq $body : 1;
		last unless $answer->{status} == $status && $same;
		$good++;
	}
	is($good, 100, 'a hundred mixed requests in one write are answered in order');
	return;
}

sub test_pipelined_events {
	my $socket = connection(TCP);
	my $body = '{"account":"pipelined","amount":1}';
	my $request = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body)
		. "\r\n\r\n$body";
	send_all($socket, $request x 50);
	my @balances = map { my $answer = read_response($socket); $answer->{json}{balance} } 1 .. 50;
	is_deeply(\@balances, [1 .. 50], 'fifty pipelined events are applied and answered in order');
	my $account = $tallyd->request('GET', '/accounts/pipelined', undef, undef, connection => $socket);
	is($account->{json}{balance}, 50, 'the balance is there to be read');
	is($account->{headers}{etag}, qq("$account->{json}{version}"), 'its ETag is its version');
	return;
}

sub allowed {
	my ($answer) = @_;
	return join ' ', sort split /\s*,\s*/, $answer->{headers}{allow} || '';
}

sub test_methods {
	my $get = $tallyd->request('GET', '/healthz');
	my $socket = connection(TCP);
	my $head = $tallyd->request('HEAD', '/healthz', undef, undef, connection => $socket);
	is($head->{status}, 200, 'HEAD is answered');
	is($head->{headers}{'content-length'}, $get->{headers}{'content-length'}, 'with GET\'s length');
	is($tallyd->request('POST', '/echo', undef, 'x', connection => $socket)->{body}, 'x',
		'and without a body: the next answer follows at once');
	my $options = $tallyd->request('OPTIONS', '/events');
	like($options->{status}, qr/^20[04]$/, 'OPTIONS is answered');
	like(allowed($options), qr/\bOPTIONS\b.*\bPOST\b/, 'with what is allowed');
	unlike(allowed($options), qr/\bDELETE\b/, 'and no more');
	my $wrong = $tallyd->request('DELETE', '/events');
	is($wrong->{status}, 405, 'a method that a resource does not have is 405');
	is(allowed($wrong), allowed($options), 'with the same Allow');
	like(allowed($tallyd->request('POST', '/accounts/a', undef, '')), qr/\bGET\b/,
		'an account may be read');
	my $missing = $tallyd->request('GET', '/nowhere');
	is($missing->{status}, 404, 'an unknown path is 404');
	ok($missing->{json}{reason}, 'with a reason');
	is($tallyd->request('GET', '/accounts/nobody')->{json}{reason}, 'unknown_account',
		'an unknown account is named as such');
	return;
}

# What arrives on SOCKET until it matches PATTERN.
sub await_bytes {
	my ($socket, $pattern) = @_;
	my $got = '';
	wait_until { sysread $socket, $got, 4096, length $got; $got =~ $pattern } 10;
	return $got;
}

sub test_expect {
	my $socket = connection(TCP);
	my $head = "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
	send_all($socket, "${head}Content-Length: 5\r\n\r\n");
	like(await_bytes($socket, qr/\r\n\r\n/), qr{\AHTTP/1\.1 100 [^\r\n]*\r\n\r\n\z},
		'100 Continue comes before the body is sent');
	send_all($socket, 'hello');
	my $answer = read_response($socket);
	is($answer->{body}, 'hello', 'and the answer after it');
	is_deeply($answer->{interim}, [], 'with no second 100');
	send_all($socket, "${head}Transfer-Encoding: chunked\r\n\r\n");
	like(await_bytes($socket, qr/\r\n\r\n/), qr{\AHTTP/1\.1 100 }, 'the same for a chunked body');
	send_all($socket, "5\r\nhello\r\n0\r\n\r\n");
	is(read_response($socket)->{body}, 'hello', 'which is answered too');
	send_all($socket, "${head}Content-Length: 999999999999999999\r\n\r\n");
	my $large = read_response($socket);
	is($large->{status}, 413, 'a body that will be refused is not asked for');
	is_deeply($large->{interim}, [], 'by any 100');
	ok($tallyd->closed($socket), 'and the connection closes');
	return;
}

sub test_chunked {
	my $socket = connection(TCP);
	my $body = join '', map { chr(33 + $_ % 90) } 1 .. 20_000;
	my $bytes = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
	for (my ($at, $size) = (0, 1); $at < length $body; $at += $size, $size = 1 + $size * 3 % 997) {
		my $chunk = substr $body, $at, $size;
		$bytes .= sprintf "%x;n=%d\r\n%s\r\n", length $chunk, $at, $chunk;
	}
	send_all($socket, "${bytes}0\r\nX-Trailer: y\r\n\r\n");
	my $answer = read_response($socket);
	ok($answer && $answer->{body} eq $body, 'a body in chunks of all sizes comes back whole');
	is($tallyd->request('POST', '/echo', undef, 'x', connection => $socket)->{body}, 'x',
		'and the connection goes on');
	return;
}

sub test_http_1_0 {
	my $socket = connection(TCP);
	send_all($socket, "GET /healthz HTTP/1.0\r\n\r\n");
	is(read_response($socket)->{status}, 200, 'HTTP/1.0 is answered');
	ok($tallyd->closed($socket), 'and closed');
	$socket = connection(TCP);
	for (1, 2) {
		send_all($socket, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
		my $answer = read_response($socket);
		is($answer && lc($answer->{headers}{connection} || ''), 'keep-alive',
			'HTTP/1.0 with keep-alive is told so, time and again');
	}
	send_all($socket, "POST /echo HTTP/1.0\r\ncOnTeNt-LeNgTh: 3\r\n\r\nabc");
	is(read_response($socket)->{body}, 'abc', 'names of fields in any case');
	ok($tallyd->closed($socket), 'and without keep-alive it closes');
	return;
}

sub test_diagnostics {
	is($tallyd->request('GET', '/fast')->{status}, 200, 'GET /fast');
	my $socket = connection(TCP);
	my $start = time;
	send_all($socket, "GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n"
		. "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nafter");
	is($tallyd->request('GET', '/fast')->{status}, 200, 'others are answered while one sleeps');
	is(read_response($socket)->{status}, 200, 'GET /sleep');
	cmp_ok(time - $start, '>=', 0.3, 'slept');
	is(read_response($socket)->{body}, 'after', 'and what was pipelined behind it waited');
	for my $ms (60_001, -1, 'x', '') {
		like($tallyd->request('GET', "/sleep?ms=$ms")->{status}, qr/^4/, "GET /sleep?ms=$ms is refused");
	}
	return;
}

# ---- what a browser sends for a page of somebody else's

sub test_origin {
	my $event = '{"account":"browsed","amount":1}';
	my $own = 'http://127.0.0.1:' . $tallyd->port;
	for my $origin ('http://example.org', 'null', 'https://127.0.0.1', "$own.example.org", "$own/") {
		my $answer = $tallyd->request('POST', '/events', { Origin => $origin }, $event);
		is($answer->{status}, 403, "an event from a page of $origin is refused");
		is($answer->{json}{reason}, 'foreign_origin', 'by that name');
	}
	is($tallyd->request('GET', '/accounts/browsed')->{status}, 404, 'nothing was applied');
	is($tallyd->request('GET', '/healthz', { Origin => 'http://example.org' })->{status}, 200,
		'reading is not for us to refuse');
	is($tallyd->request('POST', '/events', { Origin => $own, Host => substr $own, 7 }, $event)->{status}, 200,
		'a page of ours may');
	return;
}

# ---- slow clients

sub test_slow_clients {
	my $body = '{"account":"slow","amount":1}';
	my $request = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body)
		. "\r\n\r\n$body";
	my @halves = map { connection(TCP) } 1 .. HALF_SENT;
	send_all($halves[$_], substr $request, 0, 1 + $_ % (length($request) - 1)) for 0 .. $#halves;
	my $slow = connection(TCP);
	my $slow_bytes = 'GET /healthz HTTP/1.1' . "\r\nHost: a\r\nX: " . 'y' x QUICK_ANSWERS;
	my @took;
	for my $i (0 .. QUICK_ANSWERS - 1) {
		send_all($slow, substr $slow_bytes, $i, 1);
		my $start = time;
		my $answer = $tallyd->request('GET', '/healthz');
		push @took, time - $start if $answer->{status} == 200;
	}
	@took = sort { $a <=> $b } @took;
	is(scalar @took, QUICK_ANSWERS, 'others are answered beside 200 half-sent requests');
	cmp_ok($took[$#took / 2], '<', QUICK_MEDIAN * patience(), 'quickly');
	cmp_ok($took[-1], '<', QUICK_WORST * patience(), 'each of them');
	send_all($slow, substr($slow_bytes, QUICK_ANSWERS) . "\r\n\r\n");
	is(read_response($slow)->{status}, 200, 'the slow client has its answer in the end');
	send_all($halves[$_], substr $request, 1 + $_ % (length($request) - 1)) for 0 .. $#halves;
	is(scalar(grep { my $answer = read_response($_); $answer && $answer->{status} == 200 } @halves),
		HALF_SENT, 'and so has everyone who had sent a half');
	is($tallyd->balance('slow'), HALF_SENT, 'once each');
	return;
}

my @entries = read_corpus();
cmp_ok(scalar(grep { !$_->{accepted} } @entries), '>=', 80, 'the corpus has its malformed requests');
test_whole(@entries);
test_byte_by_byte(@entries);
test_splits($_) for grep { length $_->{bytes} <= SPLIT_MAX } @entries;
test_pipeline();
test_pipelined_events();
test_methods();
test_expect();
test_chunked();
test_http_1_0();
test_diagnostics();
test_origin();
test_slow_clients();
close $barrier;
is($tallyd->stop, 0, 'the daemon drains');
done_testing();
