#!/usr/bin/perl
# The PROXY protocol: on listeners that ask for it, and only from addresses that are named, the client is
# whom the header names, whatever is spoken behind it; everything else is refused, counted and logged.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::UNIX;
use Proxy qw(binary binary_local from line tlv with_checksum);
use Tallyd qw(patience read_response send_all slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	HEADER_TIME => 1.5,      # seconds, header_timeout
	HTTP        => 1,        # listeners
	REDIS       => 2,
	ECHO        => 3,
	LOCAL       => 4,
	STRANGER    => '127.0.0.9',
	PROXIES     => '127.0.0.1 127.0.1.0/24',
	LINE_MAX    => 107,
	HEADER_MAX  => 4096,
};

my $have_v6 = do { require IO::Socket::IP; IO::Socket::IP->new(LocalHost => '::1', Listen => 1) };

sub listeners {
	my (%proxies) = @_;
	my $from = $proxies{from} // PROXIES;
	return (['127.0.0.1:0', { protocol => 'http' }],
		['127.0.0.1:0', { protocol => 'http', allow_anonymous => 'true', proxy_from => $from }],
		['127.0.0.1:0', { protocol => 'redis', allow_anonymous => 'true', proxy_from => $from }],
		['127.0.0.1:0', { protocol => 'echo', allow_anonymous => 'true', proxy_from => $from }],
		['unix:%DIR%/socket', { protocol => 'http', allow_anonymous => 'true', proxy_from => 'unix' }],
		$have_v6 ? ['[::1]:0', { protocol => 'http', allow_anonymous => 'true', proxy_from => '::1' }] : ());
}

my $tallyd = Tallyd->start(listen => [listeners()],
	config => { workers => 2, header_timeout => HEADER_TIME * patience(), respawn_backoff => 0 });
my $access = $tallyd->dir . '/access';
$tallyd->stop;
$tallyd->set_config(access_log => $access);
$tallyd->start_again;

my $count = 0;

# A request that the access log is found by, and the pattern of its line up to the peer.
sub request { my $name = 'nobody' . ++$count; return ("GET /accounts/$name HTTP/1.1\r\nHost: h\r\n\r\n", $name) }

# Whom the access log says that the request for account NAME came from.
sub logged {
	my ($name) = @_;
	$tallyd->usr1; # what is finished is written
	wait_until { -e $access && slurp($access) =~ m{^(\S+) .*GET /accounts/\Q$name\E HTTP}m };
	return slurp($access) =~ m{^(\S+) - - \[.*?\] "GET /accounts/\Q$name\E HTTP/1\.1" 404 }m ? $1 : undef;
}

sub metric {
	my ($name) = @_;
	my $page = $tallyd->request('GET', '/metrics')->{body};
	return $page =~ /^\Q$name\E (\S+)$/m ? $1 : 0;
}

sub refused { my ($reason) = @_; return metric(qq(tallyd_connections_refused_total{reason="$reason"})) }

# Connects from FROM and sends HEADER and a request at once; who the log says that was.
sub peer_behind {
	my ($header, %option) = @_;
	my ($request, $name) = request();
	my $socket = $option{socket} || from($option{from} || '127.0.0.1', $tallyd->address($option{listener} || HTTP));
	send_all($socket, $header . $request);
	my $answer = eval { read_response($socket) };
	return $answer && $answer->{status} == 404 ? logged($name) : 'refused';
}

# ---- who it is

sub test_clients {
	is(peer_behind(line('192.0.2.1')), '192.0.2.1', 'version 1, IPv4');
	is(peer_behind(line('2001:db8::1')), '2001:db8::1', 'version 1, IPv6');
	is(peer_behind(binary('192.0.2.2')), '192.0.2.2', 'version 2, IPv4');
	is(peer_behind(binary('2001:db8::2')), '2001:db8::2', 'version 2, IPv6');
	is(peer_behind(binary('192.0.2.3', tlv(1, 'h2') . tlv(0xea, 'x' x 300))), '192.0.2.3', 'with TLVs');
	is(peer_behind(with_checksum(binary('192.0.2.4', tlv(1, 'h2')))), '192.0.2.4', 'with a checksum');
	is(peer_behind(binary('::ffff:192.0.2.5')), '192.0.2.5', 'IPv4 within IPv6 is IPv4');
	is(peer_behind(binary('192.0.2.6', tlv(4, 'x' x (HEADER_MAX - 31)))), '192.0.2.6', 'as long as it may be');
	is(peer_behind(line('192.0.2.7'), from => '127.0.1.200'), '192.0.2.7', 'by another proxy, of a network that is named');
	is(peer_behind(line('192.0.2.8'), socket => $tallyd->raw_socket(LOCAL)), '192.0.2.8', 'by one on a Unix socket');
	return;
}

sub test_no_client {
	is(peer_behind("PROXY UNKNOWN\r\n"), '127.0.0.1', 'an unknown client is the proxy itself');
	is(peer_behind("PROXY UNKNOWN whatever\r\n"), '127.0.0.1', '... whatever is said of it');
	is(peer_behind(binary_local()), '127.0.0.1', 'so is LOCAL');
	is(peer_behind(binary_local(0x20, 0x11, 'x' x 12)), '127.0.0.1', '... with an address that means nothing');
	is(peer_behind(binary_local(0x21, 0)), '127.0.0.1', 'and an unspecified one');
	is(peer_behind(binary_local(0x21, 0x31, "/tmp/socket\0" x 18)), 'unix', 'a client by a Unix socket has no address');
	return;
}

sub test_ipv6 {
	return unless $have_v6;
	is(peer_behind(line('192.0.2.9'), from => '::1', listener => 5), '192.0.2.9', 'a proxy by IPv6');
	is(peer_behind("PROXY UNKNOWN\r\n", from => '::1', listener => 5), '::1', 'is itself where it names none');
	return;
}

sub test_pieces {
	for my $header (line('192.0.2.10'), with_checksum(binary('192.0.2.10'))) {
		my ($request, $name) = request();
		my $socket = from('127.0.0.1', $tallyd->address(HTTP));
		for my $byte (split //, $header . $request) {
			send_all($socket, $byte);
			select undef, undef, undef, 0.001;
		}
		is(read_response($socket)->{status}, 404, 'a header in single bytes is waited for');
		is(logged($name), '192.0.2.10', '... and read');
	}
	my $socket = from('127.0.0.1', $tallyd->address(HTTP));
	send_all($socket, line('192.0.2.11'));
	sleep HEADER_TIME * 1.5 * patience();
	my ($request, $name) = request();
	send_all($socket, $request);
	is(read_response($socket)->{status}, 404, 'the request may come much later');
	($request) = request();
	send_all($socket, $request x 3);
	is(join(' ', map { read_response($socket)->{status} } 1 .. 3), '404 404 404', 'and others behind it');
	return;
}

sub test_applied {
	my $socket = from('127.0.0.1', $tallyd->address(HTTP));
	my $body = '{"account":"alice","amount":5}';
	send_all($socket, binary('192.0.2.12') . "POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
	is(read_response($socket)->{json}{balance}, 5, 'an event behind a header is applied');
	is($tallyd->balance('alice'), 5, '... once');
	return;
}

# ---- other protocols

sub reads {
	my ($socket, $length) = @_;
	my $text = '';
	wait_until { sysread($socket, $text, 65_536, length $text) // 1; length $text >= $length };
	return $text;
}

sub test_redis {
	for my $header (line('192.0.2.20'), binary('2001:db8::20')) {
		my $socket = from('127.0.0.1', $tallyd->address(REDIS));
		send_all($socket, "${header}PING\r\n*3\r\n\$6\r\nINCRBY\r\n\$3\r\nbob\r\n\$1\r\n3\r\n");
		like(reads($socket, 11), qr/^\+PONG\r\n:[36]\r\n$/, 'Redis behind a header');
	}
	is($tallyd->balance('bob'), 6, '... is applied');
	$tallyd->usr1;
	wait_until { my $log = slurp($access); $log =~ /^192\.0\.2\.20 .*"ping"/m && $log =~ /^2001:db8::20 .*"ping"/m };
	like(slurp($access), qr/^192\.0\.2\.20 .*"ping"/m, 'and logged with its client');
	like(slurp($access), qr/^2001:db8::20 .*"ping"/m, '... of either family');
	return;
}

sub test_echo {
	my $socket = from('127.0.0.1', $tallyd->address(ECHO));
	send_all($socket, binary('192.0.2.30') . 'abc');
	is(reads($socket, 3), 'abc', 'what comes behind the header comes back');
	send_all($socket, 'PROXY TCP4');
	is(reads($socket, 10), 'PROXY TCP4', 'a second header is none');
	close $socket;
	ok($tallyd->wait_log(qr/echo: connection from 192\.0\.2\.30 ended after .* and 13 bytes/), 'the log names the client');
	return;
}

# ---- refusals

# It ends without a byte of an answer.
sub silent {
	my ($socket) = @_;
	my $text = '';
	my $ended = wait_until { my $got = sysread $socket, $text, 65_536, length $text; (defined $got && $got == 0) || $!{ECONNRESET} };
	return $ended && $text eq '';
}

sub test_strangers {
	my $before = refused('not_a_proxy');
	for my $listener (HTTP, REDIS, ECHO) {
		my $socket = from(STRANGER, $tallyd->address($listener));
		eval { send_all($socket, line('192.0.2.40') . "GET / HTTP/1.1\r\nHost: h\r\n\r\n") };
		ok(silent($socket), "who is not named is refused, whatever he sends ($listener)");
	}
	ok(silent(from(STRANGER, $tallyd->address(HTTP))), '... and at once');
	ok(silent(from('127.0.2.1', $tallyd->address(HTTP))), '... also beside a network');
	is(refused('not_a_proxy') - $before, 5, 'that is counted');
	ok($tallyd->wait_log(qr/warning: refused: connections past the proxy \(1 since .*: 127\.0\.0\.9; only the addresses of proxy_from/), 'and logged');
	my @lines = $tallyd->log_text =~ /connections past the proxy/g;
	cmp_ok(scalar @lines, '<=', 2, '... once per worker');
	my $mine = $tallyd->request('GET', '/healthz');
	is($mine->{status}, 200, 'other listeners do not care');
	return;
}

sub test_malformed {
	my %bad = (
		'a request' => "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		'garbage' => "\x16\x03\x01\x02\x00",
		'a line without addresses' => "PROXY TCP4\r\n",
		'a line that is too long' => 'PROXY UNKNOWN ' . 'x' x LINE_MAX,
		'a zero in front' => "PROXY TCP4 192.0.02.1 192.0.2.1 1 2\r\n",
		'LF alone' => "PROXY TCP4 192.0.2.1 192.0.2.1 1 2\n",
		'version 3' => "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
		'a header that is too long' => binary('192.0.2.41', tlv(4, 'x' x (HEADER_MAX - 30))),
		'addresses that are cut' => binary_local(0x21, 0x11, 'x' x 11),
		'a TLV that is cut' => binary('192.0.2.41', "\x01\x00\x05h2"),
		'a wrong checksum' => with_checksum(binary('192.0.2.41')) =~ s/.\z/\xff/sr,
		'a request for Redis' => "*1\r\n\$4\r\nPING\r\n",
	);
	my $before = refused('no_proxy_header');
	for my $what (sort keys %bad) {
		my $socket = from('127.0.0.1', $tallyd->address(HTTP));
		send_all($socket, $bad{$what});
		ok(silent($socket), "refused: $what");
	}
	for my $listener (REDIS, ECHO) {
		my $socket = from('127.0.0.1', $tallyd->address($listener));
		send_all($socket, 'abc');
		ok(silent($socket), "whatever is spoken there ($listener)");
	}
	my $socket = from('127.0.0.1', $tallyd->address(HTTP));
	send_all($socket, 'PROXY TCP4');
	shutdown $socket, 1;
	ok(silent($socket), 'an end within a header');
	is(refused('no_proxy_header') - $before, 3 + keys %bad, 'each is counted');
	ok($tallyd->wait_log(qr/warning: refused: connections without a PROXY header .*: from 127\.0\.0\.1 came /), 'and logged');
	return;
}

# Load balancers look in this way whether anybody is there.
sub test_probe {
	my $before = refused('no_proxy_header');
	for (1 .. 5) {
		my $socket = from('127.0.0.1', $tallyd->address(HTTP));
		shutdown $socket, 1;
		ok(silent($socket), 'who sends nothing ends as he wishes') if $_ == 1;
		close $socket;
	}
	is(peer_behind(line('192.0.2.42')), '192.0.2.42', 'another is served');
	is(refused('no_proxy_header'), $before, 'and nothing was refused');
	return;
}

sub test_time_out {
	my ($before, $slow) = (refused('no_proxy_header'), metric('tallyd_connections_timed_out_total'));
	my $time = time;
	my @sockets = map { from('127.0.0.1', $tallyd->address($_)) } HTTP, HTTP, ECHO;
	send_all($sockets[1], 'PROXY TCP4 192.');
	my $more = from('127.0.0.1', $tallyd->address(HTTP));
	my $byte = 0;
	my $end = wait_until {
		# A byte now and then does not put it off.
		eval { send_all($more, substr 'PROXY UNKNOWN ' . 'x' x 90, $byte++, 1) };
		select undef, undef, undef, 0.05;
		my $got = sysread $more, my $text, 10;
		(defined $got && $got == 0) || $!{ECONNRESET};
	} HEADER_TIME * 4;
	my $took = time - $time;
	ok($end, 'a header that comes too slowly is not waited for');
	cmp_ok($took, '>=', HEADER_TIME * patience() * 0.9, '... before its time is over');
	ok(silent($_), 'nor one that does not come, or in part') for @sockets;
	is(refused('no_proxy_header') - $before, 4, 'each is counted');
	is(metric('tallyd_connections_timed_out_total') - $slow, 4, '... as too slow, too');
	return;
}

# ---- life

# The kernel's number of the socket that listens on listener INDEX.
sub socket_number {
	my ($index) = @_;
	my $port = sprintf '%04X', $tallyd->port($index);
	return slurp('/proc/net/tcp') =~ /:$port 00000000:0000 0A (?:\S+ +){5} *(\d+) /m ? $1 : undef;
}

sub reload {
	my (@listen) = @_;
	my $mark = $tallyd->log_mark;
	$tallyd->set_listen(@listen);
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: 2 workers/, 30, $mark), 'reloaded') or diag($tallyd->log_tail);
	return;
}

sub test_reload {
	my @on = map { [$tallyd->address($_), { %{ (listeners())[$_][1] } }] } 0 .. LOCAL;
	my @off = map { [$_->[0], { protocol => $_->[1]{protocol} }] } @on;
	my $number = socket_number(HTTP);
	ok($number, 'the socket is found');
	my $kept = from('127.0.0.1', $tallyd->address(HTTP));
	my ($request, $name) = request();
	send_all($kept, line('192.0.2.50') . $request);
	is(read_response($kept)->{status}, 404, 'one is served before');
	reload(@off);
	is(socket_number(HTTP), $number, 'the socket is still the same');
	is(peer_behind(''), '127.0.0.1', 'where nobody is asked, a request comes first');
	is(peer_behind('', from => STRANGER), STRANGER, '... from anybody');
	my $socket = from('127.0.0.1', $tallyd->address(HTTP));
	send_all($socket, line('192.0.2.51') . $request);
	is(read_response($socket)->{status}, 400, 'and a header is no request');
	($request, $name) = request();
	send_all($kept, $request);
	is(read_response($kept)->{status}, 404, 'the one of before is served on');
	is(logged($name), '192.0.2.50', '... as its client');
	reload(@on);
	is(socket_number(HTTP), $number, 'the socket is still the same');
	is(peer_behind(line('192.0.2.52')), '192.0.2.52', 'asked for again');
	is(peer_behind(line('192.0.2.52'), from => STRANGER), 'refused', '... of those who are named');
	$on[HTTP][1]{proxy_from} = STRANGER;
	reload(@on);
	is(peer_behind(line('192.0.2.53'), from => STRANGER), '192.0.2.53', 'others may be named');
	is(peer_behind(line('192.0.2.53')), 'refused', '... instead');
	return;
}

# Who has sent nothing has begun nothing: a drain does not wait until its header is overdue.
sub test_drain {
	$tallyd->set_config(header_timeout => 60 * patience());
	$tallyd->hup;
	ok((wait_until { my @all = $tallyd->log_text =~ /reloaded: 2 workers/g; @all == 4 }), 'reloaded');
	my @mute = map { from(STRANGER, $tallyd->address(HTTP)) } 1 .. 3;
	is(peer_behind(line('192.0.2.60'), from => STRANGER), '192.0.2.60', 'somebody else is served');
	my $time = time;
	is($tallyd->stop, 0, 'drained');
	cmp_ok(time - $time, '<', 15 * patience(), 'without waiting for headers');
	return;
}

test_clients();
test_no_client();
test_ipv6();
test_pieces();
test_applied();
test_redis();
test_echo();
test_strangers();
test_malformed();
test_probe();
test_time_out();
test_reload();
test_drain();
done_testing();
