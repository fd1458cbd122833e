#!/usr/bin/perl
# max_connections_per_ip: no client has more connections than it may, over all workers and listeners, by
# whatever way it comes; one that ends makes room at once, one that is refused costs nobody anything.

use strict;
use warnings;

use Errno qw(EINPROGRESS);
use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::UNIX;
use POSIX ();
use Proxy qw(binary binary_local from line);
use Socket qw(AF_INET PF_INET SOCK_STREAM SOL_SOCKET SO_ERROR inet_aton pack_sockaddr_in);
use Tallyd qw(patience read_response send_all slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	LIMIT     => 20,
	WORKERS   => 4,
	RACERS    => 4,        # processes that open CROWD / RACERS connections at once
	CROWD     => 200,
	ROUNDS    => 5,
	ADDRESSES => 16,       # max_addresses, the lowest
	FLOOD     => 3000,     # connections of one client that are refused, one behind the other
	KEPT      => 600,      # of them
	PLACES    => 64,       # max_connections, per worker
	HTTP      => 0,        # listeners
	PROXIED   => 1,
	REDIS     => 2,
	ECHO      => 3,
	LOCAL     => 4,
};

my $have_v6 = do { require IO::Socket::IP; IO::Socket::IP->new(LocalHost => '::1', Listen => 1) };

my $tallyd = Tallyd->start(
	listen => [['127.0.0.1:0', { protocol => 'http' }], ['127.0.0.1:0', { protocol => 'http', allow_anonymous => 'true', proxy_from => '127.0.0.1' }],
		['127.0.0.1:0', { protocol => 'redis' }], ['127.0.0.1:0', { protocol => 'echo' }], ['unix:%DIR%/socket', { protocol => 'http' }],
		$have_v6 ? ['[::1]:0', { protocol => 'http' }] : ()],
	config => { workers => WORKERS, max_connections => PLACES, max_connections_per_ip => LIMIT, max_addresses => ADDRESSES,
		idle_timeout => 600, header_timeout => 60, drain_timeout => 1, respawn_backoff => 0 });

sub metric {
	my ($name) = @_;
	my $page = $tallyd->request('GET', '/metrics', undef, undef, listener => LOCAL)->{body};
	my $sum = 0;
	$sum += $1 while $page =~ /^\Q$name\E(?:\{.*\})? (\S+)$/mg;
	return $sum;
}

sub refused { my ($reason) = @_; return metric(qq(tallyd_connections_refused_total{reason="$reason"})) }

# Sends BYTES and reads the first bytes of the answer; "" if the connection ended without one.
sub ask {
	my ($socket, $bytes) = @_;
	my $text = '';
	eval { send_all($socket, $bytes) };
	wait_until { my $got = sysread $socket, $text, 65_536, length $text; (defined $got && $got == 0) || $!{ECONNRESET} || $text =~ /\n/ };
	return $text;
}

my $get = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

# The status of the answer to a request on SOCKET, behind HEADER.
sub status { my ($socket, $header) = @_; return ask($socket, ($header // '') . $get) =~ m{^HTTP/1\.1 (\d+) } ? $1 : 'closed' }

# COUNT connections from CLIENT that are served, to be kept; fewer if there are fewer.
sub take {
	my ($client, $count, $listener) = @_;
	my @taken;
	for (1 .. $count) {
		my $socket = from($client, $tallyd->address($listener // HTTP));
		push @taken, $socket if status($socket) eq '200';
	}
	return @taken;
}

# Waits until no connection is counted, but the one that asks.
sub all_gone { return wait_until { metric('tallyd_worker_addresses') == 0 } }

sub test_limit {
	my @mine = take('127.0.0.2', LIMIT);
	is(scalar @mine, LIMIT, 'as many as it may');
	my $answer = read_response(from('127.0.0.2', $tallyd->address(HTTP)));
	is($answer->{status}, 503, 'one more is refused');
	is($answer->{json}{reason}, 'too_many_connections', '... by its name');
	is($answer->{json}{status}, 'rejected', '... as what may be tried again');
	is($answer->{headers}{'retry-after'}, 1, '... later');
	is($answer->{headers}{connection}, 'close', '... on another connection');
	is(ask(from('127.0.0.2', $tallyd->address(REDIS)), "PING\r\n"), "-ERR max number of clients reached\r\n", 'Redis says it in its words');
	is(ask(from('127.0.0.2', $tallyd->address(ECHO)), 'abc'), '', 'echo has none');
	is(status(from('127.0.0.3', $tallyd->address(HTTP))), 200, 'another address is served');
	is(ask(from('127.0.0.3', $tallyd->address(REDIS)), "PING\r\n"), "+PONG\r\n", '... everywhere');
	is(status($mine[0]), 200, 'those that are there are, too');
	is(refused('too_many_connections'), 3, 'refusals are counted');
	ok($tallyd->wait_log(qr/info: refused: clients with too many connections .*: 127\.0\.0\.2 has 20; see max_connections_per_ip/), 'and logged');
	unlike($tallyd->log_text, qr/echo: connection from 127\.0\.0\.2/, 'but not as connections');
	pop @mine;
	ok((wait_until { take('127.0.0.2', 1) }), 'one that ends makes room');
	@mine = ();
	ok(all_gone(), 'when all have ended, none is counted');
	return;
}

sub test_workers {
	my @mine = take('127.0.0.4', LIMIT);
	my $page = $tallyd->request('GET', '/metrics', undef, undef, listener => LOCAL)->{body};
	my @with = $page =~ /^tallyd_worker_addresses\{slot="\d+"\} 1$/mg;
	cmp_ok(scalar @with, '>', 1, 'several workers have them: ' . @with);
	is(scalar take('127.0.0.4', 2), 0, 'and together no more than there may be');
	@mine = ();
	ok(all_gone(), 'all have gone');
	return;
}

sub test_proxied {
	my @mine;
	for (1 .. LIMIT) {
		my $socket = from('127.0.0.1', $tallyd->address(PROXIED));
		push @mine, $socket if status($socket, $_ % 2 ? line('127.0.0.5') : binary('127.0.0.5')) eq '200';
	}
	is(scalar @mine, LIMIT, 'behind a proxy it is the client that is counted');
	is(status(from('127.0.0.1', $tallyd->address(PROXIED)), line('127.0.0.5')), 503, '... and refused');
	is(status(from('127.0.0.5', $tallyd->address(HTTP))), 503, '... also where it comes itself');
	my @others = map { from('127.0.0.1', $tallyd->address(PROXIED)) } 1 .. 2 * LIMIT;
	my @good = grep { status($others[$_], line('192.0.2.' . $_ % 4)) eq '200' } 0 .. $#others;
	is(scalar @good, scalar @others, 'other clients of the proxy are not');
	@others = ();
	my @own = map { from('127.0.0.1', $tallyd->address(PROXIED)) } 1 .. 2 * LIMIT;
	@good = grep { status($own[$_], $_ % 2 ? binary_local() : "PROXY UNKNOWN\r\n") eq '200' } 0 .. $#own;
	is(scalar @good, scalar @own, 'nor is the proxy, where it names none');
	@own = map { from('127.0.0.1', $tallyd->address(PROXIED)) } 1 .. 2 * LIMIT;
	is(scalar take('127.0.0.1', LIMIT), LIMIT, 'who has not said who he is is nobody yet');
	@own = @mine = ();
	ok(all_gone(), 'all have gone');
	my @six = map { from('127.0.0.1', $tallyd->address(PROXIED)) } 0 .. LIMIT;
	my @status = map { status($six[$_], line("2001:db8::$_:1")) } 0 .. LIMIT;
	is($status[LIMIT], 503, 'of IPv6 a /64 is one client');
	is(scalar(grep { $_ eq '200' } @status), LIMIT, '... that has as many');
	is(status(from('127.0.0.1', $tallyd->address(PROXIED)), line('2001:db8:0:1::1')), 200, '... and the next is another');
	return;
}

sub test_local {
	my @local = map { $tallyd->raw_socket(LOCAL) } 1 .. 2 * LIMIT;
	is(scalar(grep { status($_) eq '200' } @local), 2 * LIMIT, 'who comes by a Unix socket is not counted');
	return unless $have_v6;
	@local = ();
	my @six = map { from('::1', $tallyd->address(5)) } 0 .. LIMIT;
	is(scalar(grep { status($_) eq '200' } @six), LIMIT, 'who comes by IPv6 is');
	return;
}

# What is open is told by the kernel, not by the daemon.
sub open_now {
	my ($client) = @_;
	my $port = sprintf '%04X', $tallyd->port(HTTP);
	my $peer = sprintf '%08X', unpack 'L', inet_aton($client);
	my $count = () = slurp('/proc/net/tcp') =~ /^ *\d+: [0-9A-F]{8}:$port $peer:[0-9A-F]{4} 01 /mg;
	return $count;
}

# One of those who want many at once: connects before anybody asks anything, then sees which of them
# are served, tells how many, and keeps them until it is told to go.
sub racer {
	my ($client, $count, $tell, $go) = @_;
	my $to = pack_sockaddr_in($tallyd->port(HTTP), inet_aton('127.0.0.1'));
	my @sockets;
	sysread $go, my $byte, 1;
	for (1 .. $count) {
		socket my $socket, PF_INET, SOCK_STREAM, 0 or POSIX::_exit(1);
		bind $socket, pack_sockaddr_in(0, inet_aton($client)) or POSIX::_exit(1);
		$socket->blocking(0);
		connect $socket, $to or $! == EINPROGRESS or POSIX::_exit(1);
		push @sockets, $socket;
	}
	my @answer = map { status($_) } @sockets;
	syswrite $tell, pack 'N2', scalar(grep { $_ eq '200' } @answer), scalar(grep { $_ eq '503' || $_ eq 'closed' } @answer);
	sysread $go, $byte, 1;
	POSIX::_exit(0);
}

sub race {
	my ($client) = @_;
	my (@racers, $served, $turned);
	for (1 .. RACERS) {
		pipe my $told, my $tell or die "pipe: $!";
		pipe my $gone, my $go or die "pipe: $!";
		my $parent = $$;
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			alarm 60 * patience();
			close $go;
			POSIX::_exit(1) if getppid != $parent;
			racer($client, CROWD / RACERS, $tell, $gone);
		}
		close $tell;
		push @racers, { pid => $pid, told => $told, go => $go };
	}
	syswrite $_->{go}, 'g' for @racers;
	for (@racers) {
		sysread($_->{told}, my $counts, 8) == 8 or next;
		my ($in, $out) = unpack 'N2', $counts;
		$served += $in;
		$turned += $out;
	}
	# A worker may be about to close what it has just refused.
	my $open;
	wait_until { ($open = open_now($client)) <= LIMIT };
	syswrite $_->{go}, 'g' for @racers;
	my @status = map { waitpid $_->{pid}, 0; $? } @racers;
	return ($served, $turned, $open, "@status");
}

sub test_race {
	my ($highest, $lowest, $lost) = (0, CROWD, 0);
	for my $round (1 .. ROUNDS) {
		my ($served, $turned, $open, $status) = race('127.0.0.6');
		if ($status ne join(' ', (0) x RACERS) || $served + $turned != CROWD || $open > LIMIT) {
			diag("round $round: $served served, $turned turned away, $open open, the racers' statuses $status");
			$lost++;
		}
		$highest = $served if $served > $highest;
		$lowest = $served if $served < $lowest;
		all_gone() or diag("round $round: not all are gone"), $lost++;
	}
	is($lost, 0, CROWD . ' at once, ' . ROUNDS . ' times: each is served or refused');
	cmp_ok($highest, '<=', LIMIT, 'and never more than there may be');
	# Two that come at the same instant may both be refused.
	cmp_ok($lowest, '>=', LIMIT - WORKERS, 'nor many fewer');
	diag("served of " . CROWD . ": $lowest to $highest");
	return;
}

sub test_killed {
	for my $round (1 .. 3) {
		my @mine = take('127.0.0.7', LIMIT);
		is(scalar @mine, LIMIT, 'a client has all that it may');
		my @workers = $tallyd->children('worker');
		kill 'KILL', map { $_->{pid} } @workers[0 .. WORKERS / 2 - 1];
		my $dead = wait_until { my $left = grep { status($_) eq '200' } @mine; $left < LIMIT };
		ok($dead, 'some of it dies with its workers');
		my $left = scalar(grep { status($_) eq '200' } @mine);
		ok((wait_until { my @now = take('127.0.0.7', 1); @now && scalar(take('127.0.0.7', LIMIT - 1 - $left)) == LIMIT - 1 - $left }),
			"what the dead had is free ($left are left)");
		@mine = ();
		ok(all_gone(), 'all have gone');
	}
	return;
}

# Who is refused does not stay: it could keep others out that way.
sub test_flood {
	my @mine = take('127.0.0.8', LIMIT);
	my $pauses = metric('tallyd_accept_pauses_total');
	my $time = time;
	my @kept; # by whoever is refused, who does not close them
	for (1 .. FLOOD) {
		push @kept, from('127.0.0.8', $tallyd->address(HTTP)) || ();
		shift @kept if @kept > KEPT;
	}
	my $took = time - $time;
	is(status(from('127.0.0.3', $tallyd->address(HTTP))), 200, FLOOD . sprintf ' refused in %.1f s, and another is served', $took);
	is(metric('tallyd_accept_pauses_total'), $pauses, 'no worker was full');
	cmp_ok(metric('tallyd_connections'), '<', 2 * LIMIT, 'and none of them is kept');
	return;
}

sub test_addresses {
	my (@mine, $said);
	my $before = refused('addresses_full');
	# Of all workers: each has its own places.
	for my $i (1 .. ADDRESSES * WORKERS + 1) {
		my $socket = from('127.0.1.' . $i, $tallyd->address(HTTP));
		my $text = ask($socket, $get);
		$text =~ m{^HTTP/1\.1 200 } ? push(@mine, $socket) : ($said = $text);
	}
	my $full = ADDRESSES * WORKERS + 1 - @mine;
	cmp_ok($full, '>', 0, 'there are only so many places to count in');
	is(refused('addresses_full') - $before, $full, 'that is counted');
	like($said, qr/^HTTP\/1\.1 503 .*"reason":"addresses_full"/s, 'and said');
	ok($tallyd->wait_log(qr/error: refused: too many clients at a time to count each .*raise max_addresses and restart/), 'and logged');
	cmp_ok(metric('tallyd_worker_addresses_limit'), '==', ADDRESSES, 'how many there are is told');
	@mine = ();
	ok(all_gone(), 'all have gone');
	is(scalar take('127.0.1.9', LIMIT), LIMIT, 'and there is room again');
	all_gone();
	return;
}

sub reload {
	my (%config) = @_;
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(%config);
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: \d+ workers/, 30, $mark), 'reloaded');
	return;
}

# The limit counts also what was there before it, and what the old workers still have.
sub test_reload {
	reload(max_connections_per_ip => 0, drain_timeout => 300);
	my @mine = take('127.0.0.10', LIMIT + 5);
	is(scalar @mine, LIMIT + 5, 'without a limit there is none');
	reload(max_connections_per_ip => LIMIT);
	is(scalar take('127.0.0.10', 1), 0, 'those of before are counted');
	is(scalar take('127.0.0.11', LIMIT + 1), LIMIT, 'others have the limit');
	splice @mine, 0, 6;
	ok((wait_until { take('127.0.0.10', 1) }), 'until enough have ended');
	reload(max_connections_per_ip => LIMIT + 5);
	@mine = ();
	ok((wait_until { metric('tallyd_worker_addresses') == 0 }), 'all have gone');
	is(scalar take('127.0.0.12', LIMIT + 10), LIMIT + 5, 'another limit holds');
	reload(max_connections_per_ip => 0);
	my @many;
	for my $i (1 .. ADDRESSES * WORKERS + 10) {
		my $socket = from('127.0.1.' . $i, $tallyd->address(HTTP));
		push @many, $socket if status($socket) eq '200';
	}
	is(scalar @many, ADDRESSES * WORKERS + 10, 'who cannot be counted is served where there is no limit');
	return;
}

test_limit();
test_workers();
test_proxied();
test_local();
test_race();
test_killed();
test_flood();
test_addresses();
test_reload();
is($tallyd->stop, 0, 'drained');
done_testing();
