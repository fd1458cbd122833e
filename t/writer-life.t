#!/usr/bin/perl
# The journal writer's life: what it does when nobody asks it anything, what its successor does with
# what it left, and how long its end is waited for.

use strict;
use warnings;

use FindBin;
use Fcntl qw(SEEK_SET);
use List::Util qw(first);
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

use lib "$FindBin::RealBin/lib";
use Mounts;
use Tallyd qw(build_dir patience read_response send_all slurp wait_until);

# tallyd-journal(5)
use constant { HEAD => 4096, MARK => 3, STOP => 4, EVENT => 16 };

use constant {
	PROMPTLY => 10,     # seconds for what does not have to wait
	QUIET    => 0.3,    # seconds in which an idle writer, marking after 20 ms, would mark again
	CLOSING  => 2,      # seconds of tallyd-stub-closing
	TRIES    => 200,    # to stop a writer between an answer and the mark
};

sub writer {
	my ($tallyd) = @_;
	my ($child) = $tallyd->children('journal');
	return $child && $child->{pid};
}

# The pid of the writer that came after the one with PID.
sub successor {
	my ($tallyd, $pid) = @_;
	return wait_until { my $now = writer($tallyd); $now && $now != $pid && $now } PROMPTLY;
}

sub state {
	my ($pid) = @_;
	my $text = eval { slurp("/proc/$pid/stat") } // '';
	return $text =~ /\) (\S)/ ? $1 : '';
}

sub halt {
	my ($pid) = @_;
	kill 'STOP', $pid or die "no process $pid: $!";
	wait_until { state($pid) eq 'T' } PROMPTLY or die "process $pid does not stop";
	return;
}

# What is in the journal's files, whole records only.
sub records {
	my ($tallyd) = @_;
	my @records;
	for my $file (sort glob $tallyd->data_dir . '/journal/*.journal') {
		my $bytes = slurp($file);
		my ($base) = $file =~ m{([0-9a-f]{16})\.journal$};
		my $at = HEAD;
		while ($at + 48 <= length $bytes) {
			my ($length, $type, $lsn, $durable) = unpack '@8 L< C x3 Q< Q<', substr $bytes, $at, 48;
			last if $length < 48 || $at + $length > length $bytes || $lsn != hex($base) + $at;
			push @records, { type => $type, lsn => $lsn, durable => $durable, file => $file,
				at => $at, end => $at + $length };
			$at += $length;
		}
	}
	return @records;
}

sub last_record { return (records($_[0]))[-1] }

# Waits until a mark is the journal's last record; that, or undef.
sub mark {
	my ($tallyd) = @_;
	my $last;
	wait_until { $last = last_record($tallyd); $last && $last->{type} == MARK } PROMPTLY;
	return $last && $last->{type} == MARK ? $last : undef;
}

# A mark is there, and it says that all before it is durable.
sub is_marked {
	my ($tallyd, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $mark = mark($tallyd);
	ok($mark, "$what: a mark") or return;
	is($mark->{durable}, $mark->{lsn}, '... which vouches for all before it');
	return;
}

# Sends an event on CONNECTION and does not wait for the answer.
sub post {
	my ($tallyd, $account, $connection) = @_;
	my $body = qq({"account":"$account","amount":1});
	send_all($connection, "POST /events HTTP/1.1\r\nHost: t\r\nContent-Length: " . length($body)
		. "\r\n\r\n$body");
	return;
}

# An event, after whose answer the writer was stopped before it could mark.
sub stop_unmarked {
	my ($tallyd) = @_;
	my $pid = writer($tallyd);
	my $connection = $tallyd->connection;
	for (1 .. TRIES) {
		$tallyd->event('idle', 1, connection => $connection)->{status} == 200
			or die 'an event was not taken';
		halt($pid);
		return $pid if last_record($tallyd)->{type} == EVENT;
		kill 'CONT', $pid;
	}
	return;
}

sub flip_byte {
	my ($file, $at) = @_;
	open my $handle, '+<:raw', $file or die "$file: $!";
	sysseek $handle, $at, SEEK_SET;
	sysread $handle, my ($byte), 1;
	sysseek $handle, $at, SEEK_SET;
	syswrite $handle, chr(ord($byte) ^ 1);
	close $handle or die "$file: $!";
	return;
}

subtest 'an idle journal is marked' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => 0, snapshot_every => 0 });
	for my $round (1 .. 2) {
		is($tallyd->event('idle', 1)->{status}, 200, "event $round");
		is_marked($tallyd, 'then');
	}
	my $count = records($tallyd);
	sleep QUIET;
	is(scalar records($tallyd), $count, 'and then nothing: a mark is not marked');

	my $pid = stop_unmarked($tallyd);
	ok($pid, 'a writer stops with its last event not marked') or return;
	kill 'KILL', $pid;
	ok(successor($tallyd, $pid), 'it is killed, and replaced');
	is_marked($tallyd, 'the successor, that had nothing to write');

	my ($connection, $other) = map { $tallyd->connection } 1, 2;
	$tallyd->request('GET', '/', undef, undef, connection => $_) for $connection, $other;
	halt($pid = writer($tallyd));
	post($tallyd, 'idle', $connection);
	# Not the balance, of which the answer would wait for the event's.
	$tallyd->request('GET', '/', undef, undef, connection => $other);
	kill 'KILL', $pid;
	is(read_response($connection)->{status}, 200, 'an event that a dead writer left is answered');
	is_marked($tallyd, 'the successor, that had something to write');

	# What it is for: without the mark, damage to the last event looks like a write cut short.
	my $balance = $tallyd->balance('idle');
	$tallyd->kill9;
	my $event = first { $_->{type} == EVENT } reverse records($tallyd);
	flip_byte($event->{file}, $event->{end} - 8);
	$tallyd->start_again(expect_failure => 1);
	is($tallyd->exit_status, 3, 'damage to the last event of an idle journal is found');
	like($tallyd->log_text, qr/\Q$event->{file}\E/, '... in its file');
	flip_byte($event->{file}, $event->{end} - 8);
	$tallyd->start_again;
	is($tallyd->balance('idle'), $balance, 'undamaged, it is all there');
	is($tallyd->stop, 0, 'it stops');
};

# Starts strace on what TALLYD's master will fork; its pid, or undef where that cannot be.
sub trace {
	my ($tallyd, $file) = @_;
	return unless Mounts::have('strace');
	my $pid = fork // die "cannot fork: $!";
	if ($pid == 0) {
		open STDERR, '>', "$file.err";
		exec qw(strace -f -y -s 0 -e), 'trace=pwrite64,pwritev,fdatasync', '-o', $file, '-p',
			$tallyd->pid or POSIX::_exit(127);
	}
	my $ended;
	wait_until {
		$ended = waitpid($pid, POSIX::WNOHANG()) != 0;
		$ended || slurp('/proc/' . $tallyd->pid . '/status') =~ /^TracerPid:\s*$pid$/m;
	} PROMPTLY;
	return $ended ? undef : $pid;
}

# Did PID, in strace's TEXT, write FILE's bytes FROM to TO and then sync it?
sub settled {
	my ($text, $pid, $file, $from, $to) = @_;
	my $reached = $from;
	for (grep { /^$pid\s/ } split /\n/, $text) {
		$reached = $2 + $1
			if /pwrite64\(\d+<\Q$file\E>, .*, (\d+), (\d+)\) += \1$/ && $2 <= $reached && $2 + $1 > $reached;
		return 1 if $reached >= $to && /fdatasync\(\d+<\Q$file\E>(?:\) += 0$| <unfinished)/;
	}
	return 0;
}

subtest 'with sync = interval, a successor makes durable what the dead one wrote' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => 0, snapshot_every => 0,
		sync => 'interval', sync_interval => '60s' });
	is($tallyd->event('cached', 1)->{status}, 200, "event $_ is answered") for 1 .. 3;
	sleep QUIET;
	my @events = grep { $_->{type} == EVENT } records($tallyd);
	is(scalar @events, 3, 'they are in the file');
	is(last_record($tallyd)->{type}, EVENT, 'but not yet durable: no mark vouches for them');

	my $file = $tallyd->dir . '/trace';
	my $tracer = trace($tallyd, $file);
	my $pid = writer($tallyd);
	kill 'KILL', $pid;
	my $next = successor($tallyd, $pid);
	ok($next, 'the writer is killed, and replaced');
	is_marked($tallyd, 'the successor');
	SKIP: {
		skip 'strace may not trace here', 1 unless $tracer;
		ok((wait_until {
			settled(slurp($file), $next, $events[0]{file}, $events[0]{at}, $events[-1]{end});
		} PROMPTLY), '... and its word is good: it wrote and synced them') or diag(slurp($file));
		kill 'TERM', $tracer;
		waitpid $tracer, 0;
	}
	is($tallyd->event('cached', 1)->{status}, 200, 'it goes on');
	is($tallyd->stop, 0, 'it stops');
	$tallyd->start_again;
	is($tallyd->balance('cached'), 4, 'nothing was lost');
	is($tallyd->stop, 0, 'it stops again');
};

# Tells TALLYD, whose writer is stopped, to stop, and waits until only the writer is left.
sub close_all_but_writer {
	my ($tallyd) = @_;
	my $pid = writer($tallyd);
	halt($pid);
	$tallyd->term;
	ok((wait_until { !$tallyd->children('worker') } PROMPTLY), 'all workers have drained');
	return $pid;
}

subtest 'a writer that dies at the end' => sub {
	my $tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => 0.1 });
	is($tallyd->event('end', 1)->{status}, 200, 'an event');
	kill 'KILL', close_all_but_writer($tallyd);
	is($tallyd->wait_exit(PROMPTLY), 0, 'its successor finishes');
	is(last_record($tallyd)->{type}, STOP, 'the journal is closed');
	$tallyd->start_again;
	unlike($tallyd->log_text, qr/ended uncleanly/, 'the next start finds it so');
	is($tallyd->balance('end'), 1, 'with the event');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'a writer that does not end' => sub {
	my $binary = build_dir() . '/tallyd-stub-closing';
	plan skip_all => "$binary is not built: make check does it" unless -x $binary;
	my $tallyd = Tallyd->start(binary => $binary, config => { workers => 1 });
	is($tallyd->event('end', 1)->{status}, 200, 'an event');
	my $start = time;
	my $pid = close_all_but_writer($tallyd);
	is($tallyd->wait_exit(CLOSING + PROMPTLY), 1, 'is given up: exit 1');
	cmp_ok(time - $start, '>=', CLOSING, '... not before its time');
	like($tallyd->log_text, qr/the journal writer does not finish; what was answered is safe/,
		'... and the log says so');
	ok((wait_until { state($pid) =~ /^[ZX]?$/ } PROMPTLY), 'it is killed');
	$tallyd->start_again;
	is($tallyd->balance('end'), 1, 'what was answered is safe');
	is($tallyd->stop, 0, 'it stops');
};

done_testing();
