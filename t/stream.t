#!/usr/bin/perl
# Streams of events through the daemon: a million lines in constant memory while others are served, a
# queue that is full, ids, a drain, a reload, and the death of everything in the middle.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Socket qw(MSG_NOSIGNAL);
use Test::More;
use Time::HiRes qw(time sleep);

use lib "$FindBin::RealBin/lib";
use Tallyd qw(wait_until slurp send_all patience);

my $LINES = $ENV{TALLYD_TEST_LINES} || 1_000_000;

use constant {
	ACCOUNTS    => 100,
	BLOCK       => 1000,          # lines sent at once
	P99         => 0.030,         # seconds that a read on another connection may take more than without
	GROWTH      => 4 * 1024**2,   # bytes of memory that a stream may cost its worker
	FINISH      => 240,           # seconds for all lines
};

my $HEAD = "POST /events HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-ndjson\r\n"
	. "Transfer-Encoding: chunked\r\n\r\n";

sub chunk { return sprintf("%x\r\n", length $_[0]) . "$_[0]\r\n" }

sub line {
	my ($account, $amount, $id) = @_;
	my $more = defined $id ? qq(,"id":"$id") : '';
	return qq({"account":"$account","amount":$amount$more}\n);
}

# What comes in on SOCKET, without its framing: next() is the next line of the body, undef at its end.
package Reader {
	sub new {
		my ($class, $socket) = @_;
		return bless { socket => $socket, raw => '', body => '', head => undef, ended => 0 }, $class;
	}

	# Receives more within DEADLINE seconds; false at the end of the connection, or if nothing came.
	sub fill {
		my ($self, $deadline) = @_;
		my $bits = '';
		vec($bits, fileno $self->{socket}, 1) = 1;
		return 0 unless select($bits, undef, undef, $deadline) > 0;
		my $got = sysread $self->{socket}, $self->{raw}, 1 << 18, length $self->{raw};
		return 0 unless $got;
		$self->decode;
		return 1;
	}

	sub decode {
		my ($self) = @_;
		if (!defined $self->{head}) {
			my $at = index $self->{raw}, "\r\n\r\n";
			return if $at < 0;
			$self->{head} = substr $self->{raw}, 0, $at + 4, '';
		}
		while (!$self->{ended} && $self->{raw} =~ /\A([0-9a-fA-F]+)\r\n/) {
			my ($start, $length) = ($+[0], hex $1);
			return if length $self->{raw} < $start + $length + 2;
			$self->{ended} = 1 if $length == 0;
			$self->{body} .= substr $self->{raw}, $start, $length;
			substr $self->{raw}, 0, $start + $length + 2, '';
		}
		return;
	}

	sub next {
		my ($self, $deadline) = @_;
		my $end = Time::HiRes::time() + ($deadline || 10) * Tallyd::patience();
		while (1) {
			my $at = index $self->{body}, "\n";
			return substr($self->{body}, 0, $at + 1, '') =~ s/\n\z//r if $at >= 0;
			return if $self->{ended} || Time::HiRes::time() > $end || !$self->fill(1);
		}
	}

	# Takes what is there without looking at it line by line.
	sub take { my ($self) = @_; my $body = $self->{body}; $self->{body} = ''; return $body }
}

package main;

sub memory { return 1024 * (slurp("/proc/$_[0]/smaps_rollup") =~ /^Private_Dirty:\s+(\d+) kB/m)[0] }

sub balance { my ($tallyd, $name) = @_; return $tallyd->balance($name) // 0 }

# Asks for REQUEST on a connection of its own until told to stop; writes the seconds that each took.
sub prober {
	my ($tallyd, $request) = @_;
	pipe my $in, my $out or die $!;
	my $pid = fork // die $!;
	if ($pid == 0) {
		close $in;
		my $stop = 0;
		local $SIG{TERM} = sub { $stop = 1 };
		my $socket = $tallyd->connection;
		my @took;
		while (!$stop) {
			my $start = time;
			send_all($socket, $request);
			eval { Tallyd::read_response($socket); 1 } or last;
			push @took, time - $start;
			select undef, undef, undef, 0.002;
		}
		print {$out} join "\n", @took;
		close $out;
		POSIX::_exit(0);
	}
	close $out;
	return { pid => $pid, in => $in };
}

sub probed {
	my ($prober) = @_;
	kill 'TERM', $prober->{pid};
	my @took = sort { $a <=> $b } do { local $/; split /\n/, readline $prober->{in} };
	waitpid $prober->{pid}, 0;
	return @took;
}

sub p99 { return $_[ int($#_ * 0.99) ] }

subtest 'a long stream, and another connection of its worker' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, ring_size => '8M', journal_segment => '16M' });
	$tallyd->event('quiet', 1);
	my ($worker) = $tallyd->children('worker');
	my $block = chunk(join '', map { line('a' . $_ % ACCOUNTS, 1) } 0 .. BLOCK - 1);
	my $socket = $tallyd->connection;
	my $reader = Reader->new($socket);

	# A first piece, so that what every worker takes once is taken.
	send_all($socket, $HEAD . $block);
	$reader->next for 1 .. BLOCK;
	my $before = memory($worker->{pid});
	my $prober = prober($tallyd, "GET /accounts/quiet HTTP/1.1\r\nHost: t\r\n\r\n");
	my $writer = fork // die $!;
	if ($writer == 0) {
		$socket->blocking(1);
		my $left = $LINES / BLOCK - 1;
		while ($left-- > 0) {
			my $at = 0;
			while ($at < length $block) {
				my $sent = send $socket, substr($block, $at), MSG_NOSIGNAL;
				POSIX::_exit(1) unless defined $sent;
				$at += $sent;
			}
		}
		send $socket, "0\r\n\r\n", MSG_NOSIGNAL;
		POSIX::_exit(0);
	}
	my ($lines, $most, $wrong, $begun) = (BLOCK, 0, '', time);
	my $sanitized = slurp("/proc/$worker->{pid}/maps") =~ /libasan|libubsan/;
	my $look = 0;
	while (!$reader->{ended} && time < $begun + FINISH * patience()) {
		$reader->fill(1);
		my $body = $reader->take;
		$lines += $body =~ tr/\n//;
		$wrong ||= $1 if $body =~ /(.*"(?:error|rejected)".*)/;
		next if ++$look % 50;
		my $now = memory($worker->{pid});
		$most = $now if $now > $most;
	}
	my $seconds = time - $begun;
	waitpid $writer, 0;
	my @took = probed($prober);
	is($lines, $LINES, sprintf 'every line was answered, %.0f k/s', $LINES / $seconds / 1000);
	is($wrong, '', 'each was accepted');
	is(balance($tallyd, 'a0') + balance($tallyd, 'a' . (ACCOUNTS - 1)), 2 * $LINES / ACCOUNTS,
		'and applied once');
	SKIP: {
		skip 'a sanitizer uses memory of its own', 1 if $sanitized;
		cmp_ok($most - $before, '<', GROWTH, 'in constant memory');
	}
	cmp_ok(scalar @took, '>', 10, scalar(@took) . ' reads on another connection meanwhile');
	# Beside what the machine, and what else runs on it, takes of itself.
	my $alone = prober($tallyd, "GET /accounts/quiet HTTP/1.1\r\nHost: t\r\n\r\n");
	sleep 1;
	my @alone = probed($alone);
	cmp_ok(p99(@took), '<', P99 * patience() + 2 * p99(@alone), sprintf 'took %.1f ms at most but for one in a hundred, %.1f ms without the stream',
		1000 * p99(@took), 1000 * p99(@alone));
	is($tallyd->stop, 0, 'the daemon stops');
};

subtest 'a queue that is full' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, queue_events => 5 });
	my $socket = $tallyd->connection;
	my $reader = Reader->new($socket);
	send_all($socket, $HEAD . chunk(join '', map { line('a', 1) } 1 .. 500) . "0\r\n\r\n");
	my @balances;
	while (defined(my $line = $reader->next)) {
		push @balances, $line =~ /"accepted".*"balance":(\d+)/ ? $1 : $line;
	}
	is_deeply(\@balances, [1 .. 500], 'is waited for: every line is applied, in order, once');
	is($tallyd->stop, 0, 'the daemon stops');
};

subtest 'ids' => sub {
	my $tallyd = Tallyd->start;
	my $ask = sub {
		my $socket = $tallyd->connection;
		my $reader = Reader->new($socket);
		send_all($socket, $HEAD . chunk(join '', @_) . "0\r\n\r\n");
		my @lines;
		while (defined(my $line = $reader->next)) { push @lines, $line }
		return @lines;
	};
	my @lines = map { line('a', 1, "i$_") } 1 .. 50;
	my @first = $ask->(@lines, $lines[7], line('a', 2, 'i9'));
	is(scalar(grep { /"accepted"/ } @first), 51, 'events with ids');
	is($first[50], $first[7], 'an id that came before in the stream is answered as then');
	like($first[51], qr/"id_reused"/, 'with another amount it is refused');
	is(balance($tallyd, 'a'), 50, 'each was applied once');
	my @again = $ask->(@lines[25 .. 49], line('a', 1, 'i51'));
	is_deeply([@again[0 .. 24]], [@first[25 .. 49]], 'a stream taken up again repeats its answers');
	is(balance($tallyd, 'a'), 51, 'and applies what is new');
	is($tallyd->stop, 0, 'the daemon stops');
};

subtest 'a drain, and a reload' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, drain_timeout => '20s' });
	my $socket = $tallyd->connection;
	my $reader = Reader->new($socket);
	send_all($socket, $HEAD . chunk(line('a', 1)));
	like($reader->next, qr/"balance":1,/, 'a stream that does not end');
	my ($old) = $tallyd->children('worker');
	$tallyd->hup;
	my $reloaded = wait_until { grep { $_->{pid} != $old->{pid} } $tallyd->children('worker') } 10;
	ok($reloaded, 'a reload');
	sleep 0.2;
	send_all($socket, chunk(line('a', 1)));
	like($reader->next, qr/"balance":2,/, 'leaves it to its worker');
	send_all($socket, chunk(line('a', 1)) . "0\r\n\r\n");
	like($reader->next, qr/"balance":3,/, 'until it ends');
	ok(!defined $reader->next && $reader->{ended}, 'as it should');

	$socket = $tallyd->connection;
	$reader = Reader->new($socket);
	send_all($socket, $HEAD . chunk(join '', map { line('a', 1) } 1 .. 100));
	my $balance = 0;
	$balance = $1 if $reader->next =~ /"balance":(\d+),/;
	$tallyd->term;
	my $last = '';
	while (defined(my $line = $reader->next)) {
		$balance = $1 if $line =~ /"balance":(\d+),/;
		$last = $line;
	}
	is($balance, 103, 'a drain lets the lines be answered that have come');
	like($last, qr/"reason":"draining"/, 'and says so in a last line');
	ok($reader->{ended}, 'with the end of the body');
	is($tallyd->wait_exit, 0, 'the daemon stops');
	$tallyd->start_again;
	is(balance($tallyd, 'a'), 103, 'and has it all');
	is($tallyd->stop, 0, 'and stops again');
};

# The answers to what was sent at once on SOCKET, to the end of the connection: status, and "close"
# where one says so.
sub answers {
	my ($socket) = @_;
	my @answers;
	while (my $answer = eval { Tallyd::read_response($socket) }) {
		push @answers, join ' ', $answer->{status}, $answer->{headers}{connection} // ();
	}
	return join ', ', @answers;
}

sub post {
	my ($body, $type, $query) = @_;
	return 'POST /events' . ($query // '') . " HTTP/1.1\r\nHost: t\r\nContent-Type: "
		. ($type // 'application/json') . "\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

# 503 once its worker drains.
sub health {
	my ($socket) = @_;
	send_all($socket, "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n");
	return Tallyd::read_response($socket)->{status};
}

subtest 'what was sent ahead, and a drain' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, queue_events => 5, drain_timeout => '20s' });
	my $event = '{"account":"a","amount":1}';
	my $lines = 'application/x-ndjson';
	my $chunked = $HEAD . chunk("$event\n") . "0\r\n\r\n";
	my %first = (
		'an array'             => post("[$event,$event]"),
		'an array that is one' => post("[$event,$event]", undef, '?atomic=true'),
		'lines'                => post("$event\n$event\n", $lines),
		'lines in chunks'      => $chunked,
	);
	my @names = sort keys %first;
	my %socket = map { my $name = $_; map { $_ => $tallyd->connection } $name, "$name, alone" } @names;
	my $probe = $tallyd->connection;
	health($_) for $probe, values %socket;
	my $open = $tallyd->connection;
	my $reader = Reader->new($open);
	send_all($open, $HEAD . chunk("$event\n"));
	$reader->next;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: 1 workers/, 10), 'a reload');
	wait_until { health($probe) == 503 } 10;
	for my $name (@names) {
		send_all($socket{$name}, $first{$name} . post($event) x 2);
		is(answers($socket{$name}), '200, 200, 200 close', "$name: what follows is answered, the last says so");
		send_all($socket{"$name, alone"}, $first{$name});
		is(answers($socket{"$name, alone"}), '200 close', "$name alone: the last as well");
	}
	send_all($open, "0\r\n\r\n");
	ok(!defined $reader->next && $reader->{ended}, 'a stream from before ends');
	sleep 0.2;
	send_all($open, post($event));
	is(answers($open), '200 close', 'and its connection with the next answer, as an idle one does');

	my $socket = $tallyd->connection;
	# While nothing is written, the first array is under way and the rest waits.
	my ($journal) = $tallyd->children('journal');
	kill 'STOP', $journal->{pid};
	send_all($socket, post('[' . join(',', ($event) x 1000) . ']') x 3 . "GET /accounts/a HTTP/1.1\r\nHost: t\r\n\r\n");
	sleep 0.2;
	$tallyd->term;
	ok($tallyd->wait_log(qr/stop: draining/, 10), 'a stop begins');
	sleep 0.5;
	kill 'CONT', $journal->{pid};
	is(answers($socket), '200, 200, 200, 200 close', 'what had come is answered behind an array');
	is($tallyd->wait_exit, 0, 'the daemon stops');
};

subtest 'the death of everything in the middle' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1 });
	my $socket = $tallyd->connection;
	my $reader = Reader->new($socket);
	my ($sent, $told) = (0, 0);
	send_all($socket, $HEAD);
	while ($told < 5000) {
		send_all($socket, chunk(join '', map { line('a', 1) } 1 .. 100));
		$sent += 100;
		$reader->fill(0.001);
		$told = $1 if $reader->take =~ /.*"balance":(\d+),/s;
	}
	$tallyd->kill9;
	while ($reader->fill(1)) { }
	$told = $1 if $reader->take =~ /.*"balance":(\d+),/s;
	$tallyd->start_again;
	my $balance = balance($tallyd, 'a');
	ok($balance >= $told && $balance <= $sent,
		"nothing that was acknowledged is lost: $told <= $balance <= $sent");
	is($tallyd->stop, 0, 'the daemon stops');
};

done_testing;
