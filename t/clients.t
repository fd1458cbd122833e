#!/usr/bin/perl
# Real clients: curl, wrk, ab and hey, over IPv4, IPv6 and a Unix socket, HTTP/1.0 included.  No error,
# and what they count is what the balance says.

use strict;
use warnings;

use FindBin;
use IO::Socket::IP;
use POSIX ();
use Test::More;

use lib "$FindBin::RealBin/lib";
use Tallyd qw(slurp wait_until);

my $SECONDS  = $ENV{TALLYD_TEST_SECONDS} || 2;        # of each run of wrk
my $REQUESTS = $ENV{TALLYD_TEST_REQUESTS} || 2000;    # of each run of ab and hey

my $has_v6 = IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1) ? 1 : 0;
my $tallyd = Tallyd->start(config => { max_body => '64K' }, listen => [['127.0.0.1:0', {}],
	['unix:%DIR%/socket', { mode => '0600' }], $has_v6 ? ['[::1]:0', {}] : ()]);
my $url = $tallyd->url;
my $dir = $tallyd->dir;

sub program {
	my ($name) = @_;
	my ($path) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
	return $path;
}

# Runs COMMAND; (status, all its output).
sub run {
	my (@command) = @_;
	my $pid = open my $pipe, '-|';
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', "$dir/body";
		exec 'timeout', 30 * Tallyd::patience(), @command or POSIX::_exit(127);
	}
	local $/;
	my $output = <$pipe>;
	close $pipe;
	return ($? >> 8, $output // '');
}

sub spew {
	my ($name, $text) = @_;
	open my $file, '>', "$dir/$name" or die "$dir/$name: $!";
	print {$file} $text;
	close $file or die "$dir/$name: $!";
	return "$dir/$name";
}

my $body = spew(body => '{"account":"stdin","amount":3}');

subtest 'curl' => sub {
	my $curl = program('curl') or plan skip_all => 'curl is not installed';
	my $balance = 0;
	my $post = sub {
		my ($what, @arguments) = @_;
		my ($status, $output) = run($curl, '-sS', '-w', "\n%{http_code} %{http_version}", @arguments);
		is($status, 0, "$what: curl is content") or diag($output);
		$balance += 3;
		like($output, qr/"status":"accepted","account":"stdin","balance":$balance,/, "$what: accepted");
		like($output, qr/\n200 1\.1\z/, "$what: 200");
		return;
	};
	my @data = ('-d', "\@$body");
	$post->('-d', @data, "$url/events");
	$post->('with its type', @data, '-H', 'Content-Type: application/json', "$url/events");
	$post->('HTTP/1.0', '--http1.0', @data, "$url/events");
	$post->('Expect', '-H', 'Expect: 100-continue', @data, "$url/events");
	$post->('chunked from standard input', '-X', 'POST', '-T', '-', "$url/events");
	$post->('chunked with Expect', '-H', 'Transfer-Encoding: chunked', '-H', 'Expect: 100-continue',
		@data, "$url/events");
	$post->('Unix socket', '--unix-socket', "$dir/socket", @data, 'http://localhost/events');
	SKIP: {
		skip 'no IPv6 here', 3 unless $has_v6;
		$post->('IPv6', '-g', @data, $tallyd->url(2) . '/events');
	}
	$post->('Connection: close', '-H', 'Connection: close', @data, "$url/events");

	my ($status, $output) = run($curl, '-sSI', "$url/accounts/stdin");
	is($status, 0, 'HEAD: curl is content');
	my ($length) = $output =~ /^Content-Length: (\d+)\r$/mi;
	($status, my $got) = run($curl, '-sS', "$url/accounts/stdin");
	is($length, length $got, 'HEAD: the length of the answer to GET');
	like($got, qr/"balance":$balance\b/, 'GET: the balance');
	my ($tag) = $output =~ /^ETag: (\S+)\r$/mi;
	($status, $output) = run($curl, '-sS', '-o', '/dev/null', '-w', '%{http_code}', '-H',
		"If-None-Match: $tag", "$url/accounts/stdin");
	is($output, 304, 'GET with the ETag of it: 304');
	($status, $output) = run($curl, '-sS', '-X', 'OPTIONS', '-i', "$url/events");
	like($output, qr/^HTTP\/1\.1 204 .*^Allow: .*POST/ms, 'OPTIONS: Allow');
	($status, $output) = run($curl, '-sS', '-w', '%{num_connects} ', '-o', '/dev/null', "$url/",
		'-o', '/dev/null', "$url/healthz", '-o', '/dev/null', "$url/accounts/none");
	is($output, '1 0 0 ', 'one connection for three requests');
	my $large = spew(large => join '', map { chr(33 + $_ % 90) } 1 .. 60_000);
	($status, $output) = run($curl, '-sS', '-H', 'Expect: 100-continue', '--data-binary', "\@$large", "$url/echo");
	ok($output eq slurp($large), 'POST /echo of 60 kB with Expect');
	($status, $output) = run($curl, '-sS', '-X', 'POST', '-T', $large, '-H', 'Transfer-Encoding: chunked',
		"$url/echo");
	ok($output eq slurp($large), 'POST /echo of 60 kB in chunks');
	is((stat "$dir/socket")[2] & 0777, 0600, 'the socket has its mode');
};

# The first number behind LABEL in TEXT, or 0.
sub number {
	my ($label, $text) = @_;
	return $text =~ /$label\s*(\d+)/ ? $1 : 0;
}

subtest 'wrk' => sub {
	my $wrk = program('wrk') or plan skip_all => 'wrk is not installed';
	my $script = spew('post.lua', <<'LUA');
wrk.method = "POST"
wrk.body = '{"account":"wrk","amount":1}'
LUA
	my ($status, $output) = run($wrk, '-t1', '-c32', "-d${SECONDS}s", '-s', $script, "$url/events");
	is($status, 0, 'it ends well') or diag($output);
	unlike($output, qr/Socket errors|Non-2xx/, 'without an error') or diag($output);
	my ($count) = $output =~ /(\d+) requests in/;
	cmp_ok($count, '>', 0, "$count requests");
	my $balance = $tallyd->balance('wrk');
	# It leaves when the time is over: what was out then, was applied and is not counted.
	ok($balance >= $count && $balance <= $count + 32, "the balance is $balance");
	($status, $output) = run($wrk, '-t1', '-c32', '-d1s', "$url/accounts/wrk");
	unlike($output, qr/Socket errors|Non-2xx/, 'GET without an error') or diag($output);
};

subtest 'ab' => sub {
	my $ab = program('ab') or plan skip_all => 'ab is not installed';
	my $sent = 0;
	my $post = spew(ab => '{"account":"ab","amount":1}');
	for my $keep ([], ['-k']) {
		my $what = @$keep ? 'HTTP/1.0 with keep-alive' : 'HTTP/1.0';
		# Lengths differ as the balance grows: -l.
		my ($status, $output) = run($ab, '-l', '-q', @$keep, '-n', $REQUESTS, '-c', 16, '-p', $post,
			'-T', 'application/json', "$url/events");
		is($status, 0, "$what: it ends well") or diag($output);
		is(number('Complete requests:', $output), $REQUESTS, "$what: all of them");
		is(number('Failed requests:', $output), 0, "$what: none failed");
		unlike($output, qr/Non-2xx|Write errors:\s*[1-9]/, "$what: no other answer") or diag($output);
		is(number('Keep-Alive requests:', $output), $REQUESTS, "$what: kept alive") if @$keep;
		$sent += $REQUESTS;
		is($tallyd->balance('ab'), $sent, "$what: the balance is their number");
	}
	my ($status, $output) = run($ab, '-q', '-k', '-n', $REQUESTS, '-c', 16, "$url/accounts/ab");
	is(number('Failed requests:', $output), 0, 'GET: none failed') or diag($output);
};

subtest 'hey' => sub {
	my $hey = program('hey') or plan skip_all => 'hey is not installed';
	my $sent = 0;
	my $rounded = $REQUESTS - $REQUESTS % 16;    # it sends a multiple of its workers
	for my $keep ([], ['-disable-keepalive']) {
		my $what = @$keep ? 'without keep-alive' : 'HTTP/1.1';
		my ($status, $output) = run($hey, @$keep, '-n', $rounded, '-c', 16, '-m', 'POST',
			'-T', 'application/json', '-d', '{"account":"hey","amount":1}', "$url/events");
		is($status, 0, "$what: it ends well") or diag($output);
		my ($good) = $output =~ /\[200\]\s+(\d+) responses/;
		is($good, $rounded, "$what: all of them 200") or diag($output);
		unlike($output, qr/Error distribution/, "$what: no error");
		$sent += $rounded;
		is($tallyd->balance('hey'), $sent, "$what: the balance is their number");
	}
};

is($tallyd->stop, 0, 'it stops');
done_testing();
