#!/usr/bin/perl
# The tests' own client and configuration writer (t/lib/Tallyd.pm), without a daemon.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);
use Tallyd qw(read_response wait_until free_port reserve_port);
use Test::More;

# The answer that read_response makes of BYTES, then the end of the stream.
sub answer {
	my ($bytes, %option) = @_;
	socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!";
	syswrite $theirs, $bytes;
	close $theirs unless $option{open};
	$ours->blocking(0);
	my @answers = (scalar eval { read_response($ours, %option) }, $@);
	push @answers, scalar eval { read_response($ours, %option) } if $option{twice};
	return @answers;
}

my ($got, $why) = answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab");
like($why, qr/closed within a body: 2 of 3 bytes/, 'a body that is cut is no answer');
($got) = answer("HTTP/1.1 200 OK\r\nCONTENT-TYPE:application/json\r\nX: a\r\nx: b\r\n"
	. "Content-Length: 31\r\n\r\n" . '{"balance":9223372036854775807}');
is($got->{status}, 200, 'status');
is($got->{reason}, 'OK', 'reason');
is($got->{headers}{x}, 'a, b', 'repeated headers are joined');
is($got->{json}{balance}, '9223372036854775807', 'an int64 stays exact');

($got) = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	. "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n");
is($got->{body}, 'abc0123456789', 'a chunked body');
my @cut = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n");
like($cut[1], qr/longer than it says/, 'a chunk with the wrong size');

($got) = answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
is($got->{status}, 204, 'the answer after 100 Continue');
is_deeply($got->{interim}, [100], '... which is told too');

($got) = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method => 'HEAD', open => 1);
is($got->{body}, '', 'the answer to HEAD has no body');

my @two = answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 Not Found\r\n"
	. "Content-Length: 1\r\n\r\nb", twice => 1);
is($two[0]{body}, 'a', 'pipelined: the first');
is($two[2]{body}, 'b', 'pipelined: the second');

my ($none, $error) = answer('');
ok(!defined $none && $error eq '', 'an end before the first byte is undef');
($none, $error) = answer("HTTP/1.1 200 OK\r\nContent-Le");
like($error, qr/closed within the head/, 'an end within the head dies');
($none, $error) = answer("SSH-2.0\r\n\r\n");
like($error, qr/no status line/, 'something else than HTTP dies');
($none, $error) = answer('HTTP/1.1 200', open => 1, deadline => 0.05);
like($error, qr/timeout: no whole answer/, 'silence dies at the deadline');

is(Tallyd::_request_text('POST', '/e', { A => 'b' }, 'xy'),
	"POST /e HTTP/1.1\r\nHost: localhost\r\nA: b\r\nContent-Length: 2\r\n\r\nxy", 'a request');
is(Tallyd::_request_text('POST', '/e', [host => 'h', A => 1, A => 2, 'Content-Length' => 9], 'x'),
	"POST /e HTTP/1.1\r\nhost: h\r\nA: 1\r\nA: 2\r\nContent-Length: 9\r\n\r\nx",
	'a request with framing of its own');

my $tallyd = bless { config => { workers => 2, sync => 'always', log => 'a"b\\c', user => undef,
	diagnostics => 'true' }, listen => [['unix:/x', { mode => '0600' }]], creator => 0 }, 'Tallyd';
is($tallyd->config_text, <<'CONFIGURATION', 'a configuration: numbers bare, strings quoted');
diagnostics = true
log = "a\"b\\c"
sync = "always"
workers = 2
listen "unix:/x" {
	mode = 0600
}
CONFIGURATION

my $calls = 0;
is((wait_until { ++$calls == 3 ? 'three' : 0 } 5), 'three', 'wait_until gives the value');
ok(!(wait_until { 0 } 0.03), 'wait_until gives up at the deadline');
isnt(free_port(), free_port(), 'two ports are two');

# What another process says to CODE.
sub elsewhere {
	my ($code) = @_;
	return scalar qx($^X -I$FindBin::RealBin/lib -MTallyd=free_port,reserve_port -e 'print $code');
}

my $port = free_port();
is(elsewhere("reserve_port($port) ? 1 : 0"), 0, 'a port is given to one process only, though nobody listens there');
ok(reserve_port(elsewhere('free_port')), '... until its end');

done_testing();
