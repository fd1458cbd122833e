#!/usr/bin/perl
# The echo protocol: every byte back, in order, whatever is sent, however slowly it is read; a half-closed
# connection gets the rest; memory stays bounded; others are served meanwhile; and it ends in order.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Digest::MD5 ();
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use IO::Poll qw(POLLIN POLLOUT);
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOL_SOCKET SO_RCVBUF SO_SNDBUF SO_LINGER);
use Tallyd qw(patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	DEADLINE => 60,
	GIBI     => 1 << 30,
	HALF     => 8 << 20,      # bytes before a client says that it has sent all
	CROWD    => 10_000,
	PIECE    => 1 << 18,
	TOO_MUCH => 30_000,       # kB by which a worker may grow
	STALLED  => 64 << 20,     # bytes that nobody may take for a client that does not read
	DEATHS   => 5,
	BLOCK    => 2048,         # BUFFER_BLOCK_MIN
};

# As many open files as the limit lets one have, for the daemon as well.
unless ($ENV{TALLYD_TEST_FILES}) {
	$ENV{TALLYD_TEST_FILES} = 1;
	exec 'sh', '-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', 'sh', $^X, (map { "-I$_" } "$FindBin::RealBin/lib"), $0, @ARGV;
}

my $tallyd = Tallyd->start(listen => [['127.0.0.1:0', { protocol => 'http' }], ['127.0.0.1:0', { protocol => 'echo', backlog => 4096 }], ['unix:%DIR%/echo', { protocol => 'echo' }]],
	config => { workers => 2, max_connections => 12_000, buffer_memory => '64M', respawn_backoff => 0 });

sub client {
	my (%option) = @_;
	my $socket = $option{unix} ? IO::Socket::UNIX->new(Peer => $tallyd->dir . '/echo')
		: IO::Socket::IP->new(PeerAddr => $tallyd->address(1), $option{buffer} ? (Sockopts => [[SOL_SOCKET, SO_RCVBUF, pack 'i', $option{buffer}], [SOL_SOCKET, SO_SNDBUF, pack 'i', $option{buffer}]]) : ());
	die "cannot connect: $!" unless $socket;
	$socket->blocking(0);
	return $socket;
}

sub would_block { return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR }

# Sends TOTAL bytes, of which NEXT gives the next ones, and reads all that comes back until the end.
# Returns how many came, and whether they were the same.
sub exchange {
	my ($socket, $total, $block) = @_;
	my ($sent, $got, $out, $in) = (0, 0, Digest::MD5->new, Digest::MD5->new);
	my $poll = IO::Poll->new;
	my $end = time + DEADLINE * patience(); # for the next bytes
	my $rest = '';
	shutdown $socket, 1 if $total == 0;
	while (time < $end) {
		if ($sent < $total || length $rest) {
			if (!length $rest) {
				$rest = substr $block, 0, $total - $sent < length $block ? $total - $sent : length $block;
				$out->add($rest);
				$sent += length $rest;
			}
			my $done = syswrite $socket, $rest;
			return ($got, 0) unless defined $done || would_block();
			substr $rest, 0, $done, '' if $done;
			if ($sent == $total && !length $rest) { shutdown $socket, 1 or die "shutdown: $!" }
		}
		my $count = sysread $socket, my $bytes, PIECE;
		return ($got, $in->digest eq $out->digest) if defined $count && $count == 0;
		return ($got, 0) unless defined $count || would_block();
		if ($count) { $in->add($bytes); $got += $count; $end = time + DEADLINE * patience(); next }
		$poll->mask($socket => POLLIN | (length $rest || $sent < $total ? POLLOUT : 0));
		$poll->poll(0.5);
	}
	return ($got, 0);
}

sub resident { return (slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+) kB/m)[0] }

sub workers { return map { $_->{pid} } $tallyd->children('worker') }

sub metric { my ($name) = @_; my $page = $tallyd->request('GET', '/metrics')->{body}; my $sum = 0; $sum += $1 while $page =~ /^\Q$name\E(?:\{[^}]*\})? (\S+)$/mg; return $sum }

# ---- what comes back

sub test_bytes {
	my $all = join '', map { chr } 0 .. 255;
	for my $unix (0, 1) {
		my ($got, $same) = exchange(client(unix => $unix), 3, $all);
		ok($got == 3 && $same, 'three bytes come back');
		($got, $same) = exchange(client(unix => $unix), 1_000_001, $all x 512);
		ok($got == 1_000_001 && $same, 'a million do');
	}
	my $socket = client();
	my $back = '';
	for my $byte (split //, "a\r\n\0b") {
		syswrite $socket, $byte;
		ok((wait_until { sysread $socket, $back, 10, length $back; length $back }), 'one byte after the other');
	}
	wait_until { sysread $socket, $back, 10, length $back; length $back >= 5 };
	is($back, "a\r\n\0b", '... as they were');
	my ($got) = exchange(client(), 0, '');
	is($got, 0, 'nothing comes back of nothing');
	like($tallyd->log_text, qr/echo: connection from 127\.0\.0\.1$/m, 'connections are logged');
	ok((wait_until { $tallyd->log_text =~ /echo: connection from 127\.0\.0\.1 ended after \d+\.\d{3} s and 1000001 bytes$/m }), '... and what became of them');
	ok((wait_until { $tallyd->log_text =~ /echo: connection from unix ended after .* and 3 bytes$/m }), '... on Unix sockets, too');
	cmp_ok(metric('tallyd_echo_bytes_total'), '>=', 2_000_006, 'bytes are counted');
	return;
}

# Everything has been sent before anything is read.
sub test_half_closed {
	my $socket = client(buffer => 65_536);
	my $block = join '', map { pack 'N', $_ } 1 .. 16_384;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		$socket->blocking(1);
		my $sent = 0;
		while ($sent < HALF) {
			my $done = syswrite $socket, $block, length($block) - $sent % length $block, $sent % length $block;
			POSIX::_exit(1) unless $done;
			$sent += $done;
		}
		shutdown $socket, 1;
		POSIX::_exit(0);
	}
	my ($got, $wrong) = ('', 0);
	my $end = time + DEADLINE * patience();
	sleep 0.05; # what is not read fills all buffers meanwhile
	my $count = 0;
	while (time < $end) {
		my $read = sysread $socket, $got, PIECE, length $got;
		last if defined $read && $read == 0;
		die "cannot read: $!" unless defined $read || would_block();
		if (!$read) { select undef, undef, undef, 0.001; next }
		while (length $got >= length $block) {
			$wrong++ if substr($got, 0, length $block, '') ne $block;
			$count += length $block;
		}
	}
	waitpid $pid, 0;
	is($count + length $got, HALF, 'a half-closed connection gets all that is owed');
	is($wrong, 0, '... as it was');
	return;
}

sub test_much {
	my %before = map { $_ => resident($_) } workers();
	my ($got, $same) = exchange(client(), GIBI, 'tallyd ' x 37_449);
	is($got, GIBI, 'a GiB comes back');
	ok($same, '... as it was');
	cmp_ok(resident($_) - $before{$_}, '<', TOO_MUCH, '... in constant memory') for workers();
	return;
}

# A client that sends and does not read: it is not read from any more.
sub test_back_pressure {
	my %before = map { $_ => resident($_) } workers();
	my @deaf = map { client(buffer => 65_536) } 1 .. 20;
	my $block = 'x' x PIECE;
	my ($sent, $quiet) = (0, 0);
	while ($quiet < 50 && $sent < STALLED * @deaf) {
		my $more = 0;
		for my $socket (@deaf) { $more += syswrite($socket, $block) || 0 }
		$sent += $more;
		$quiet = $more ? 0 : $quiet + 1;
		select undef, undef, undef, 0.01 unless $more;
	}
	cmp_ok($sent, '<', STALLED * @deaf, 'who does not read is not read from');
	cmp_ok(resident($_) - $before{$_}, '<', TOO_MUCH, '... and costs no memory') for workers();
	is($tallyd->event('meanwhile', 1)->{status}, 200, '... others are served');
	my ($got, $same) = exchange(client(), 100_000, 'y' x 1000);
	ok($got == 100_000 && $same, '... other echoes as well');
	close $_ for @deaf;
	return;
}

# Who sends as fast as it can has only its turns, also of the only worker there is.
sub test_fair {
	my $alone = Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'echo' }]], config => { workers => 1 });
	my $parent = $$;
	my @pids = map {
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			my $socket = IO::Socket::IP->new(PeerAddr => $alone->address(1)) or POSIX::_exit(1);
			$socket->blocking(0);
			exchange($socket, GIBI << 4, 'z' x PIECE) if getppid == $parent;
			POSIX::_exit(0);
		}
		$pid;
	} 1 .. 4;
	my $flowed = sub { return $alone->request('GET', '/metrics')->{body} =~ /^tallyd_echo_bytes_total (\d+)/m ? $1 : 0 };
	ok((wait_until { $flowed->() > 64 << 20 } 30), 'bytes flow');
	my $bytes = $flowed->();
	my $served = 0;
	for (1 .. 100) { $served++ if $alone->event('fair', 1)->{status} == 200 }
	is($served, 100, 'events are taken meanwhile, by the same worker');
	cmp_ok($flowed->(), '>', $bytes, '... while they flow');
	kill KILL => @pids;
	waitpid $_, 0 for @pids;
	is($alone->stop, 0, '... and it stops');
	return;
}

# Clients of HTTP that have sent half a request hold all the memory there is, but for one block: it would
# keep what has come, and is too small for the answer.  Then the connection ends, and does not wait for ever.
sub test_no_memory {
	my $small = Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'echo' }]],
		config => { workers => 1, buffer_memory => '1M', max_body => '256K', header_timeout => 100 });
	my @holders = map { my $socket = $small->raw_socket(0); syswrite $socket, "GET / HTTP/1.1\r\nX: "; $socket } 1 .. (1 << 20) / BLOCK + 10;
	my $refused = sub { my ($socket) = @_; my $got = sysread $socket, my $bytes, PIECE; return defined $got ? 1 : !would_block() };
	my @kept = @holders;
	ok((wait_until { @kept = grep { !$refused->($_) } @kept; @kept < @holders }), 'all the memory is held');
	ok((wait_until { @kept = grep { !$refused->($_) } @kept; @kept <= (1 << 20) / BLOCK }), '... ' . @kept . ' blocks of it');
	shutdown $kept[0], 1;
	ok((wait_until { $refused->($kept[0]) }), '... but for one that is given back');
	close shift @kept;
	my $socket = $small->raw_socket(1);
	my $sent = 'e' x (BLOCK - 8);
	syswrite $socket, $sent;
	my $end = '';
	ok((wait_until { my $got = sysread $socket, my $bytes, PIECE; $end = defined $got ? $got ? 'echo' : 'end' : would_block() ? '' : 'end' }), "what cannot go back is not waited for: $end");
	close $_ for @kept, $socket;
	ok((wait_until { my ($got, $same) = exchange($small->raw_socket(1), 10_000, 'f' x 1000); $got == 10_000 && $same }), '... and others are served, with memory again');
	is($small->stop, 0, '... and it stops');
	return;
}

# ---- many

sub test_crowd {
	my $files = `sh -c 'ulimit -n'`;
	SKIP: {
		skip "only $files descriptors are to be had", 4 if $files =~ /^\d+$/ && $files < CROWD + 200;
		my @crowd;
		for my $number (1 .. CROWD) {
			my $socket = eval { client() };
			last unless $socket;
			push @crowd, $socket;
		}
		is(scalar @crowd, CROWD, CROWD . ' connections');
		ok((wait_until { metric('tallyd_connections') >= CROWD } 30), '... are there at once');
		syswrite $crowd[$_], pack 'N', $_ for 0 .. $#crowd;
		my ($right, $end) = (0, time + DEADLINE * patience());
		for my $number (0 .. $#crowd) {
			my $bytes = '';
			while (length $bytes < 4 && time < $end) {
				my $got = sysread $crowd[$number], $bytes, 4 - length $bytes, length $bytes;
				last if defined $got && $got == 0;
				select undef, undef, undef, 0.001 unless $got;
			}
			$right++ if $bytes eq pack 'N', $number;
		}
		is($right, CROWD, 'each gets its own back');
		close $_ for @crowd;
		ok((wait_until { metric('tallyd_connections') < 100 } 30), 'and they go');
	}
	return;
}

# ---- ends

sub ends { my ($socket) = @_; return wait_until { my $got = sysread $socket, my $bytes, PIECE; defined $got ? $got == 0 : !would_block() } }

sub test_deaths {
	for (1 .. DEATHS) {
		my @clients = map { client() } 1 .. 8;
		syswrite $_, 'hello' for @clients;
		for my $socket (@clients) { wait_until { sysread $socket, my $bytes, 5 } }
		my ($worker) = workers();
		kill KILL => $worker;
		wait_until { !grep { $_ == $worker } workers() };
		ok((wait_until { $tallyd->serves }), 'a worker dies');
		my ($alive, $gone, $silent) = (0, 0, 0);
		for my $socket (@clients) {
			syswrite $socket, 'again';
			my $bytes = '';
			my $over = wait_until { my $got = sysread $socket, $bytes, 5, length $bytes; length $bytes == 5 ? 'echo' : defined $got ? 'gone' : would_block() ? 0 : 'gone' };
			!$over ? $silent++ : $over eq 'echo' ? $alive++ : $gone++;
		}
		is($silent, 0, "... $gone clients see it, $alive go on, nobody waits");
	}
	my ($got, $same) = exchange(client(), 1000, 'new' x 400);
	ok($got == 1000 && $same, 'new ones are served');
	# A reset is no more than an end.
	my $socket = client();
	syswrite $socket, 'x' x 1000;
	setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
	close $socket;
	ok($tallyd->serves, 'after a reset it serves');
	return;
}

sub test_idle {
	$tallyd->set_config(idle_timeout => 1);
	$tallyd->write_config;
	my $mark = $tallyd->log_mark;
	my $old = client();
	syswrite $old, 'old';
	ok((wait_until { sysread $old, my $bytes, 3 }), 'before a reload');
	$tallyd->hup;
	$tallyd->wait_log(qr/reloaded/, 10, $mark);
	my $idle = client();
	syswrite $idle, 'idle';
	ok((wait_until { sysread $idle, my $bytes, 4 }), 'it echoes after it');
	ok(ends($idle), 'who says nothing for idle_timeout is closed');
	return;
}

# The protocol of a listener changes with a reload, and the log can be JSON.
sub test_reload {
	my $mark = $tallyd->log_mark;
	my $address = $tallyd->address(2);
	$tallyd->set_config(idle_timeout => 75, log_format => 'json');
	$tallyd->set_listen([$tallyd->address(0), {}], [$tallyd->address(1), { protocol => 'echo' }], [$address, { protocol => 'http' }]);
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: /, 20, $mark), 'a reload');
	is($tallyd->request('GET', '/healthz', undef, undef, listener => 2)->{status}, 200, 'after which a listener of echo speaks HTTP');
	$mark = $tallyd->log_mark;
	my ($got, $same) = exchange(client(), 5, 'bytes');
	ok($got == 5 && $same, '... and the other still echoes');
	ok($tallyd->wait_log(qr/^\{"time":"[^"]*","level":"info","role":"worker \d+","pid":\d+,"message":"echo: connection from 127\.0\.0\.1 ended after [0-9.]+ s and 5 bytes"\}$/m, 10, $mark), '... into a log of JSON');
	return;
}

# All that came before the signal goes back, and then it ends.
sub test_drain {
	my @busy = map { client() } 1 .. 20;
	my $idle = client();
	for my $socket (@busy, $idle) { syswrite $socket, 'one'; wait_until { sysread $socket, my $bytes, 3 } }
	my $much = 'two' x 10_000;
	syswrite($_, $much) == length $much or die "cannot send: $!" for @busy;
	$tallyd->term;
	my $whole = 0;
	for my $socket (@busy) {
		my $bytes = '';
		wait_until { my $got = sysread $socket, $bytes, PIECE, length $bytes; defined $got ? $got == 0 : !would_block() };
		$whole++ if $bytes eq $much;
	}
	is($whole, @busy, 'a drain gives back what has come');
	ok(ends($idle), 'idle ones end');
	is($tallyd->wait_exit, 0, 'it stops in order');
	return;
}

test_bytes;
test_half_closed;
test_much;
test_back_pressure;
test_fair;
test_no_memory;
test_crowd;
test_deaths;
test_idle;
test_reload;
test_drain;
done_testing;
