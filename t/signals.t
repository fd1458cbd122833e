#!/usr/bin/perl
# Signals, options, exit codes, going to the background, privileges: tallyd(8) held to its word, most
# of it under load.  A request may never be lost: not in a reload, not in a drain.

use strict;
use warnings;

use Fcntl qw(SEEK_SET);
use File::Temp qw(tempdir);
use FindBin;
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time sleep);

use lib "$FindBin::RealBin/lib";
use Hammer;
use Tallyd qw(wait_until slurp send_all read_response patience);

my $RELOADS = $ENV{TALLYD_TEST_RELOADS} || 30;    # of the loop under load
my $DRAINS  = $ENV{TALLYD_TEST_DRAINS} || 3;

use constant {
	PROMPTLY => 5,      # seconds for what does not have to wait
	DRAIN    => 1,      # seconds of drain_timeout where it is to pass
};

my $binary = $ENV{TALLYD} || Tallyd::build_dir() . '/tallyd';
my $is_root = $> == 0;

# Runs tallyd with ARGUMENTS to its end: (status, stdout, stderr).
sub tool {
	my (@arguments) = @_;
	my $dir = tempdir('tallyd-tool-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDIN,  '<', '/dev/null';
		open STDOUT, '>', "$dir/out";
		open STDERR, '>', "$dir/err";
		exec { $binary } $binary, @arguments or POSIX::_exit(127);
	}
	my $ended = wait_until { waitpid($pid, WNOHANG) == $pid } 20;
	die "tallyd @arguments does not end" unless $ended;
	return ($? >> 8, slurp("$dir/out"), slurp("$dir/err"));
}

sub workers { return map { $_->{pid} } $_[0]->children('worker') }

# Asks for a reload and waits until it has been done, or refused; the log's new lines.
sub reload {
	my ($tallyd) = @_;
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	$tallyd->wait_log(qr/reloaded: \d+ workers|reload failed/, 20, $mark)
		or diag('no word about the reload');
	return substr $tallyd->log_text, $mark;
}

# Waits until COUNT workers are left, and none of OLD, those of before a reload: as long as one of
# these is there it may take the next connection.  Their number alone says too little, since a look
# at the processes takes a moment and so can miss the newest and the first to go.
sub renewed {
	my ($tallyd, $count, @old) = @_;
	my %old = map { $_ => 1 } @old;
	return wait_until { my @now = workers($tallyd); @now == $count && !grep { $old{$_} } @now } 20;
}

# A hammer that has had its first answer.
sub load {
	my ($tallyd, %option) = @_;
	my $load = Hammer->start($tallyd, accounts => 50, %option);
	$load->wait_more(1) or die 'the load is not answered';
	return $load;
}

# What a load says when nothing went wrong.
sub unharmed {
	my ($report, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @bad = map { $report->{$_} ? "$report->{$_} $_" : () } qw(unknown breaks refusals_to_connect);
	push @bad, Hammer::oddities($report), %{ $report->{refused} };
	is_deeply(\@bad, [], "$what: nothing lost, broken or refused of $report->{sent} requests");
	is($report->{acknowledged}, $report->{sent}, "$what: every request accepted");
	return;
}

# The balances are what the load was told.
sub accounted {
	my ($tallyd, $report, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %wrong;
	for my $name (sort keys %{ $report->{accounts} }) {
		my $balance = $tallyd->balance($name) || 0;
		my ($acknowledged, $unknown) = @{ $report->{accounts}{$name} };
		$wrong{$name} = "$acknowledged acknowledged, $unknown unanswered, balance $balance"
			if $balance != $acknowledged;
	}
	is_deeply(\%wrong, {}, "$what: the balances are what was acknowledged");
	return;
}

# A request of which the last byte is missing, and that byte.
sub half_request {
	my ($account) = @_;
	my $body = qq({"account":"$account","amount":7});
	my $text = "POST /events HTTP/1.1\r\nHost: t\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
	return (substr($text, 0, -1), substr($text, -1));
}

subtest 'options' => sub {
	my ($status, $out, $err) = tool('-V');
	is($status, 0, '-V exits with 0');
	like($out, qr/^tallyd \d+\.\d+\.\d+\n\z/, '-V says the version');
	my $dir = tempdir(CLEANUP => 1);
	my $file = "$dir/tallyd.conf";
	my $write = sub {
		open my $handle, '>', $file or die "$file: $!";
		print {$handle} @_;
		close $handle;
	};
	$write->("workers = 3\n");
	($status, $out, $err) = tool('-t', '-c', $file);
	is($status, 0, '-t: a good file is 0');
	like($out, qr/\Q$file\E is valid/, '-t says so');
	$write->("workers = 3\nworker = 3\n");
	($status, $out, $err) = tool('-t', '-c', $file);
	is($status, 2, '-t: a bad file is 2');
	like($err, qr/\Q$file\E:2: worker: /, '-t names file, line and key');
	($status, $out, $err) = tool('-f', '-c', $file);
	is($status, 2, 'start: a bad file is 2');
	like($err, qr/\Q$file\E:2: worker: /, 'start says why');
	($status, $out, $err) = tool('-t', '-c', "$dir/none");
	is($status, 2, 'a missing file is 2');
	for (['-x'], ['operand'], ['-s', 'dance'], ['-s']) {
		($status, $out, $err) = tool(@$_);
		is($status, 2, "@$_ is 2");
		like($err, qr/usage: tallyd/, "@$_ shows the usage");
	}
	$write->(qq(pid_file = "$dir/pid"\n));
	for my $word (qw(reload stop quit reopen)) {
		($status, $out, $err) = tool('-s', $word, '-c', $file);
		is($status, 1, "-s $word without a daemon is 1");
		like($err, qr/not running/, "-s $word says why");
	}
};

subtest 'a reload under load' => sub {
	my $tallyd = Tallyd->start(config => { log_level => 'debug' });
	my $load = load($tallyd, connections => 16);
	my @old = workers($tallyd);

	like(reload($tallyd), qr/reloaded: 2 workers/, 'a reload that changes nothing');
	ok(renewed($tallyd, 2, @old), 'new workers stand in the place of the old ones');

	for my $workers (4, 2) {
		$tallyd->set_config(workers => $workers);
		@old = workers($tallyd);
		like(reload($tallyd), qr/reloaded: $workers workers/, "to $workers workers");
		ok(renewed($tallyd, $workers, @old), "$workers workers are left");
		is($tallyd->request('GET', '/')->{json}{workers}, $workers, 'which they know');
	}

	my @first = ($tallyd->address, {});
	$tallyd->set_listen([@first], ['127.0.0.1:0', {}], ['unix:%DIR%/socket', { mode => '0600' }]);
	like(reload($tallyd), qr/listening on 127.*listening on unix/s, 'two listeners come');
	my @kept = map { $tallyd->connection($_) } 1, 2;
	for my $index (1, 2) {
		my $answer = $tallyd->event('new', 1, connection => $kept[ $index - 1 ]);
		is($answer->{status}, 200, 'served at ' . $tallyd->address($index));
	}
	my $gone = $tallyd->port(1);
	$tallyd->set_listen([@first]);
	like(reload($tallyd), qr/no longer listening on 127.*no longer listening on unix/s, '... and go');
	# A worker may find a request before it finds the signal that was sent before it.
	my $events = 2;
	for my $connection (@kept) {
		my $answer;
		ok((wait_until {
			$events++;
			$answer = $tallyd->event('new', 1, connection => $connection);
			return $answer->{status} != 200 || ($answer->{headers}{connection} || '') eq 'close';
		} PROMPTLY), 'a connection that was open there has a last answer');
		is($answer->{status}, 200, '... as good as any');
		ok($tallyd->closed($connection, PROMPTLY), '... and ends');
	}
	ok((wait_until { !IO::Socket::INET->new("127.0.0.1:$gone") } PROMPTLY), 'the port is free');
	ok(!-e $tallyd->dir . '/socket', 'the socket is gone');

	for my $round (1 .. $RELOADS) {
		$tallyd->set_config(workers => $round % 2 ? 1 : 2);
		my $lines = reload($tallyd);
		next if $lines =~ /reloaded/ && $lines !~ /failed/;
		fail("reload $round of $RELOADS");
		diag($lines);
		last;
	}
	ok((wait_until { workers($tallyd) == ($RELOADS % 2 ? 1 : 2) } 20),
		"after $RELOADS reloads in a row only the newest workers are left");
	$tallyd->hup for 1 .. 20;
	my $report = $load->finish;
	unharmed($report, 'reloads');
	cmp_ok($report->{longest_silence_ms}, '<', PROMPTLY * 1000 * patience(), 'and never a pause');
	accounted($tallyd, $report, 'reloads');
	is($tallyd->balance('new'), $events, 'so do the events at listeners that came and went');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'a reload that fails' => sub {
	my $tallyd = Tallyd->start;
	my $load = load($tallyd, connections => 8);
	my @before = workers($tallyd);
	my $foreign = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die $!;
	my $taken = $foreign->sockport;
	my $good = $tallyd->config_text;
	my $log = $tallyd->dir . '/none/log';
	my %bad = (
		'a syntax error'   => ["$good\nlisten {", qr/tallyd\.conf:\d+/],
		'an unknown key'   => ["$good\nwurkers = 2\n", qr/tallyd\.conf:\d+: wurkers/],
		'a bad value'      => ["$good\nidle_timeout = 0\n", qr/idle_timeout.*0\.1s to 24h/],
		'a port in use'    => [qq(${good}listen "127.0.0.1:$taken" {}\n), qr/127\.0\.0\.1:$taken.*in use/],
		'a log without its directory' => [$good =~ s/^log = .*/log = "$log"/mr, qr/\Q$log\E.*No such/],
		'an access log without its directory' => [qq(${good}access_log = "$log"\n), qr/\Q$log\E.*No such/],
		'an empty path'    => [undef, qr/tallyd\.conf.*No such file/],
	);
	for my $what (sort keys %bad) {
		my ($text, $why) = @{ $bad{$what} };
		$tallyd->write_config($text) if defined $text;
		unlink $tallyd->config_file unless defined $text;
		my $lines = reload($tallyd);
		like($lines, $why, "$what: the log says it");
		like($lines, qr/reload failed: .*everything stays as it was/, "$what: and that nothing changed");
		ok((wait_until { "@before" eq join ' ', workers($tallyd) } PROMPTLY), "$what: the workers stay");
		is($tallyd->request('GET', '/healthz')->{status}, 200, "$what: they serve");
	}
	$tallyd->write_config($good);
	like(reload($tallyd), qr/reloaded/, 'the good file again');
	my $report = $load->finish;
	unharmed($report, 'failed reloads');
	accounted($tallyd, $report, 'failed reloads');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'what a reload changes' => sub {
	my $tallyd = Tallyd->start;
	my $data = $tallyd->data_dir;
	my $other = tempdir(CLEANUP => 1);
	$tallyd->set_config(max_accounts => 20_000, data_directory => $other, ring_size => '2M');
	my $lines = reload($tallyd);
	like($lines, qr/reload: $_ changes only with a restart/, "$_ is reported")
		for qw(max_accounts data_directory ring_size);
	like($lines, qr/reloaded: 2 workers/, 'the rest is applied');
	is_deeply([glob "$other/*"], [], 'another data directory stays untouched');
	is($tallyd->event('kept', 5)->{status}, 200, 'events are taken');
	$tallyd->set_config(max_accounts => 10_000, data_directory => $data, ring_size => '1M');

	my $malformed = sub {
		my $mark = $tallyd->log_mark;
		my $socket = $tallyd->connection;
		send_all($socket, "GET / HTTP/1.1\r\n\r\n");
		is(read_response($socket)->{status}, 400, 'a malformed request is refused');
		return substr $tallyd->log_text, $mark;
	};
	$tallyd->set_config(log_level => 'error', workers => 1);
	my @old = workers($tallyd);
	$tallyd->hup;
	ok(renewed($tallyd, 1, @old), 'log_level = error, and one worker');
	is($malformed->(), '', 'the new worker logs no refusal');
	my $log = $tallyd->dir . '/other.log';
	$tallyd->set_config(log_level => 'info', log => $log);
	@old = workers($tallyd);
	$tallyd->hup;
	ok((wait_until { -e $log && slurp($log) =~ /reloaded: 1 workers/ } 20),
		'log_level = info, and another log');
	ok(renewed($tallyd, 1, @old), '... for a new worker');
	is($malformed->(), '', 'nothing goes to the old log');
	ok((wait_until { slurp($log) =~ /worker 1 info: refused: malformed requests/ } PROMPTLY),
		'the worker writes to the new one');
	ok((wait_until {
		my ($journal) = $tallyd->children('journal');
		$journal && grep { (readlink // '') eq $log } glob "/proc/$journal->{pid}/fd/*";
	} PROMPTLY), 'so does the journal writer');
	unlike(slurp($log), qr/journal writer.* was killed/, '... which nobody had to kill');
	is($tallyd->event('kept', 0)->{status}, 200, '... and which goes on');
	$tallyd->set_config(log => 'stderr');
	like(reload($tallyd), qr/reloaded/, 'and back');

	my $time = sub {
		my $start = time;
		is($tallyd->event('kept', 1)->{status}, 200, 'an event');
		return time - $start;
	};
	$tallyd->set_config(journal_delay => 400, queue_events => 2);
	reload($tallyd);
	# An event that follows something which is written already, such as an idle journal's mark, waits
	# only for the rest of that delay.
	ok((wait_until { $time->() >= 0.4 } 10), 'journal_delay = 400 ms');
	# A slow machine may send some only after those before them have left the queue.
	my ($half, $rest) = half_request('kept');
	my %got;
	ok((wait_until {
		my @clients = map { $tallyd->connection } 1 .. 6;
		%got = (200 => 0, 503 => 0);
		send_all($_, $half . $rest) for @clients;
		$got{ read_response($_)->{status} }++ for @clients;
		return $got{503} >= 2 || $got{200} + $got{503} != 6;
	} 10), 'queue_events = 2 refuses some');
	is($got{200} + $got{503}, 6, 'every event of six is answered');
	$tallyd->set_config(journal_delay => 0, queue_events => undef);
	reload($tallyd);
	ok((wait_until { $time->() < 0.4 } 10), 'no journal_delay');

	# Answers without a sync, counted by the kernel.
	SKIP: {
		my ($strace) = grep { -x } map { "$_/strace" } split /:/, $ENV{PATH};
		skip 'no strace', 1 unless $strace && $is_root;
		my ($journal) = map { $_->{pid} } $tallyd->children('journal');
		my $trace = $tallyd->dir . '/trace';
		my $pid = fork // die $!;
		if ($pid == 0) {
			open STDERR, '>', $tallyd->dir . '/strace.err';
			exec $strace, '-f', '-ttt', '-e', 'trace=fdatasync,pwritev,pwrite64', '-o', $trace, '-p',
				$journal or POSIX::_exit(127);
		}
		my $syncs = sub { -e $trace ? scalar(() = slurp($trace) =~ /fdatasync\(/g) : 0 };
		ok((wait_until { $time->() && $syncs->() } 10), 'the journal writer is watched');
		my $before = $syncs->();
		$time->() for 1 .. 20;
		cmp_ok($syncs->() - $before, '>=', 20, 'sync = always: an fdatasync for each of 20 events');
		$tallyd->set_config(sync => 'interval', sync_interval => 500);
		reload($tallyd);
		$before = $syncs->();
		my $start = time;
		$time->() for 1 .. 20;
		my $took = time - $start;
		cmp_ok($syncs->() - $before, '<=', 2 + $took / 0.5, 'sync = interval: one per interval');
		my $seen = length slurp($trace);
		$time->();
		ok((wait_until { substr(slurp($trace), $seen) =~ /pwrite.*fdatasync\(/s } PROMPTLY),
			'and one for the last of them');
		kill 'TERM', $pid;
		waitpid $pid, 0;
		is($tallyd->event('kept', 1)->{status}, 200, 'it goes on');
	}
	my $balance = $tallyd->balance('kept');
	is($tallyd->stop, 0, 'it stops');
	$tallyd->start_again;
	is($tallyd->balance('kept'), $balance, 'nothing was lost');
	is($tallyd->stop, 0, 'it stops again');
};

# Who reads the pid file may send a signal before the master can act on any: strace keeps it from binding.
subtest 'signals during the start' => sub {
	my @slowly = (qw(strace -D -qqq -o /dev/null -e trace=bind -e), 'inject=bind:delay_enter=700000');
	plan skip_all => 'strace is not installed, or may not trace here' if system "@slowly true 2>/dev/null";
	for my $word (qw(reload reopen stop)) {
		my $tallyd = Tallyd->start(config => { workers => 1 }, wrapper => [@slowly], no_wait => 1);
		ok((wait_until { -s $tallyd->pid_file }), 'there is a pid file');
		unlike($tallyd->log_text, qr/listening on/, '... and nobody listens yet');
		is((tool('-s', $word, '-c', $tallyd->config_file))[0], 0, "-s $word finds the master");
		if ($word eq 'stop') {
			is($tallyd->wait_exit, 0, '... which ends, drained');
			next;
		}
		ok((wait_until { $tallyd->serves } 20), '... which comes to serve all the same') or next;
		ok($tallyd->wait_log(qr/reloaded: /, 20, 0), '... and reloads then') if $word eq 'reload';
		is($tallyd->stop, 0, '... and stops');
	}
};

subtest 'TERM under load' => sub {
	my $tallyd = Tallyd->start(config => { drain_timeout => 20 });
	for my $round (1 .. $DRAINS) {
		my $load = load($tallyd, connections => 16, depth => $round == 2 ? 4 : 1,
			prefix => "drain$round-");
		my $start = time;
		is($tallyd->stop, 0, 'exit 0');
		cmp_ok(time - $start, '<', 15 * patience(), 'before drain_timeout');
		my $report = $load->finish;
		is_deeply([Hammer::oddities($report)], [], 'no answer is wrong');
		$tallyd->start_again;
		accounted($tallyd, $report, 'what was applied was answered');
	}
	is($tallyd->stop, 0, 'it stops');
};

subtest 'TERM, and who is connected' => sub {
	my $tallyd = Tallyd->start(config => { drain_timeout => 20, workers => 1 });
	my ($idle, $half, $busy) = map { $tallyd->connection } 1 .. 3;
	is($tallyd->event('calm', 1, connection => $idle)->{status}, 200, 'a connection that will idle');
	my ($begin, $rest) = half_request('calm');
	send_all($half, $begin);
	is($tallyd->event('calm', 1, connection => $busy)->{status}, 200, 'the half request has arrived');
	$tallyd->term;
	ok($tallyd->closed($idle, PROMPTLY), 'the idle connection is closed');
	ok(!defined $tallyd->exit_status, 'the half-sent request is waited for');
	ok((wait_until { !IO::Socket::INET->new('127.0.0.1:' . $tallyd->port) } PROMPTLY),
		'nobody can connect any more');
	send_all($half, $rest);
	my $answer = read_response($half);
	is($answer->{status}, 200, 'its rest comes, it is answered');
	is($answer->{headers}{connection}, 'close', '... for the last time');
	is($tallyd->wait_exit(PROMPTLY), 0, 'then it ends');
	$tallyd->start_again;
	is($tallyd->balance('calm'), 9, 'it was applied');

	for my $case (
		['drain_timeout cuts', DRAIN, sub { }],
		['a second TERM cuts', 30, sub { $tallyd->term }],
		['QUIT after TERM cuts', 30, sub { $tallyd->quit }],
	) {
		my ($what, $timeout, $then) = @$case;
		$tallyd->set_config(drain_timeout => $timeout);
		my @old = workers($tallyd);
		reload($tallyd);
		ok(renewed($tallyd, 1, @old), 'a new worker');
		($idle, $half) = map { $tallyd->connection } 1 .. 2;
		send_all($half, $begin);
		is($tallyd->event('calm', 1, connection => $idle)->{status}, 200, 'a half-sent request waits');
		my $start = time;
		$tallyd->term;
		ok($tallyd->closed($idle, PROMPTLY), 'draining');
		$then->();
		is($tallyd->wait_exit(10), 0, "$what: exit 0");
		cmp_ok(time - $start, '<', 8 * patience(), "$what: in time");
		cmp_ok(time - $start, '>=', $timeout, "$what: not before") if $timeout == DRAIN;
		$tallyd->start_again;
	}

	my $load = load($tallyd, connections => 8, prefix => 'quit');
	($half) = $tallyd->connection;
	send_all($half, $begin);
	my $start = time;
	$tallyd->quit;
	is($tallyd->wait_exit(10), 0, 'QUIT: exit 0');
	cmp_ok(time - $start, '<', 5 * patience(), 'QUIT: waits for no client');
	my $report = $load->finish;
	$tallyd->start_again;
	accounted($tallyd, $report, 'QUIT: what was applied was answered');
	is($tallyd->balance('calm'), 12, 'half a request was never applied');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'USR1' => sub {
	my $dir = tempdir(CLEANUP => 1);
	chmod 0777, $dir;
	my $tallyd = Tallyd->start(config => {
		log => "$dir/log", access_log => "$dir/access", workers => 1, data_directory => "$dir/data",
		$is_root ? (user => 'nobody') : (),
	}, data_dir => "$dir/data");
	$tallyd->request('GET', '/before');
	ok((wait_until { slurp("$dir/access") =~ m{GET /before} } PROMPTLY), 'a line in the access log');
	rename "$dir/$_", "$dir/$_.1" or die $! for qw(log access);
	$tallyd->usr1;
	ok((wait_until { -e "$dir/log" && -e "$dir/access" } PROMPTLY), 'both logs are opened anew');
	my $size = -s "$dir/access.1";
	$tallyd->request('GET', '/after');
	ok((wait_until { slurp("$dir/access") =~ m{GET /after} } PROMPTLY), 'the next line is in the new one');
	unlike(slurp("$dir/access.1"), qr{/after}, '... and not in the old one');
	my $socket = $tallyd->connection;
	send_all($socket, "GET / HTTP/1.1\r\n\r\n");
	read_response($socket);
	like(slurp("$dir/log"), qr/worker 1 info: refused: malformed/, 'a worker logs to the new log');
	unlike(slurp("$dir/log.1"), qr/cannot be reopened|malformed/, '... and not to the old one');
	$tallyd->hup;
	ok((wait_until { slurp("$dir/log") =~ /master notice: reloaded/ } 20), 'the master as well');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'respawn' => sub {
	my $tallyd = Tallyd->start(config => { respawn_backoff => 0.1 });
	my @waits;
	my ($victim) = workers($tallyd);
	my ($steady) = grep { $_ != $victim } workers($tallyd);
	for my $round (1 .. 4) {
		my $start = time;
		kill 'KILL', $victim;
		my ($next) = wait_until {
			my ($new) = grep { $_ != $victim && $_ != $steady } workers($tallyd);
			$new;
		} 20;
		push @waits, time - $start;
		is($tallyd->event('alive', 1)->{status}, 200, 'the other worker serves');
		$victim = $next;
	}
	my @least = (0.1, 0.2, 0.4, 0.8);
	cmp_ok($waits[$_], '>=', $least[$_] * 0.95, "death $_: replaced after $least[$_] s") for 0 .. 3;
	like($tallyd->log_text, qr/worker \d \(process \d+\) was killed by signal 9/, 'the log tells');
	my ($journal) = $tallyd->children('journal');
	kill 'KILL', $journal->{pid};
	is($tallyd->event('alive', 1)->{status}, 200, 'an event waits for the next journal writer');
	is($tallyd->balance('alive'), 5, 'nothing was lost');
	$tallyd->kill9;
	pass('no process outlives a killed master');
	$tallyd->start_again;
	is($tallyd->balance('alive'), 5, 'nor was anything then');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'respawn without the access log' => sub {
	my $where = File::Temp->newdir;
	my $tallyd = Tallyd->start(config => { workers => 1, respawn_backoff => 0,
		access_log => "$where/logs/access" }, expect_failure => 1);
	is($tallyd->exit_status, 1, 'a start without the directory of its access log fails');
	like($tallyd->log_text, qr{access log \Q$where\E/logs/access: No such file}, 'and says why');
	mkdir "$where/logs" or die $!;
	$tallyd->start_again;
	my ($worker) = $tallyd->children('worker');
	unlink "$where/logs/access";
	rmdir "$where/logs" or die $!;
	kill 'KILL', $worker->{pid};
	ok(wait_until(sub {
		my ($new) = $tallyd->children('worker');
		return $new && $new->{pid} != $worker->{pid} && eval { $tallyd->event('a', 1)->{status} == 200 };
	}, 10), 'a worker that replaces another serves without it');
	is($tallyd->stop, 0, 'drained');
};

subtest 'exit codes of a start' => sub {
	my $first = Tallyd->start;
	my $second = sub {
		my ($what, $status, $why, %config) = @_;
		for my $mode ('-f', '') {
			my $dir = tempdir(CLEANUP => 1);
			my %keys = (data_directory => qq("$dir/data"), pid_file => qq("$dir/pid"),
				max_accounts => 1000, log => qq("$dir/log"), %config);
			my $listen = delete $keys{listen} || '127.0.0.1:' . Tallyd::free_port();
			open my $file, '>', "$dir/conf" or die $!;
			print {$file} map({ "$_ = $keys{$_}\n" } sort keys %keys), qq(listen "$listen" {}\n);
			close $file;
			my $start = time;
			my ($got, undef, $err) = tool(($mode) x !!$mode, '-c', "$dir/conf");
			my $name = $mode ? "$what, -f" : "$what, in the background";
			is($got, $status, "$name: exit $status");
			like($err, $why, "$name: says why");
			ok(!-e "$dir/pid", "$name: leaves no pid file");
		}
	};
	$second->('port in use', 1, qr/127\.0\.0\.1:\d+.*in use/, listen => $first->address);
	$second->('data directory in use', 3, qr/in use by process @{[ $first->pid ]}\b/,
		data_directory => '"' . $first->data_dir . '"');
	$second->('pid file in use', 1, qr/already running as pid @{[ $first->pid ]}\b/,
		pid_file => '"' . $first->dir . '/copy.pid"') if link $first->pid_file, $first->dir . '/copy.pid';
	$second->('bad configuration', 2, qr/conf:\d+: workers/, workers => 65);
	$second->('unknown user', 2, qr/nobody-of-this-name/, user => '"nobody-of-this-name"');
	$second->('log without a directory', 2, qr{/none/log}, log => '"/none/log"');
	is($first->event('first', 1)->{status}, 200, 'the first is undisturbed');
	is($first->stop, 0, 'it stops');

	open my $file, '+<', $first->data_dir . '/lock' or die $!;
	my ($segment) = glob $first->data_dir . '/journal/*';
	open my $journal, '+<', $segment or die $!;
	sysseek $journal, 4096 + 20, SEEK_SET;
	syswrite $journal, "\xff" x 8;
	close $journal;
	$first->start_again(expect_failure => 1);
	is($first->exit_status, 3, 'a corrupt journal: exit 3');
	like($first->log_text, qr/\Q$segment\E/, '... and names the file');
};

subtest 'in the background' => sub {
	my $dir = tempdir(CLEANUP => 1);
	my $port = Tallyd::free_port();
	open my $file, '>', "$dir/conf" or die $!;
	print {$file} qq(data_directory = "$dir/data"\npid_file = "$dir/pid"\nlog = "$dir/log"\n),
		qq(max_accounts = 1000\njournal_segment = 1M\nworkers = 1\nlisten "127.0.0.1:$port" {}\n);
	close $file;
	my ($status, $out, $err) = tool('-c', "$dir/conf");
	is($status, 0, 'start returns 0');
	is($err . $out, '', '... silently');
	my $socket = IO::Socket::INET->new("127.0.0.1:$port");
	ok($socket, 'and it serves at once');
	print {$socket} "GET /healthz HTTP/1.0\r\n\r\n";
	like(join('', <$socket>), qr{^HTTP/1\.1 200 }, '... really');
	my ($pid) = slurp("$dir/pid") =~ /^(\d+)\n\z/;
	ok($pid && kill(0, $pid), 'the pid file has a live pid');
	my $what = sub { my ($name) = @_; return readlink "/proc/$pid/$name" };
	is($what->('cwd'), '/', 'its directory is /');
	is_deeply([map { $what->("fd/$_") } 0 .. 2], [('/dev/null') x 3], 'its standard descriptors lead nowhere');
	my ($session, $terminal) = (split ' ', slurp("/proc/$pid/stat") =~ s/.*\) //r)[3, 4];
	isnt($session, POSIX::getsid(0) // 0, 'a session of its own') if defined &POSIX::getsid;
	isnt($session, $pid, 'which it does not lead');
	is($terminal, 0, 'no terminal');
	like(slurp("/proc/$pid/status"), qr/^Umask:\s+0077$/m, 'its umask is 077');

	is((tool('-s', 'reload', '-c', "$dir/conf"))[0], 0, '-s reload');
	ok((wait_until { slurp("$dir/log") =~ /reloaded: 1 workers/ } 20), '... reloads');
	rename "$dir/log", "$dir/log.1";
	is((tool('-s', 'reopen', '-c', "$dir/conf"))[0], 0, '-s reopen');
	ok((wait_until { -e "$dir/log" } PROMPTLY), '... reopens');
	is((tool('-s', 'stop', '-c', "$dir/conf"))[0], 0, '-s stop');
	ok((wait_until { !kill 0, $pid } 20), '... stops');
	ok(!-e "$dir/pid", 'and the pid file is gone');
	($status, $out, $err) = tool('-c', "$dir/conf");
	is($status, 0, 'started again') or diag($err, slurp("$dir/log"));
	($pid) = slurp("$dir/pid") =~ /^(\d+)/;
	my @failed;
	for (1 .. 10) {
		kill 'KILL', $pid;
		($status, $out, $err) = tool('-c', "$dir/conf");
		push @failed, "$status $err" if $status;
		($pid) = slurp("$dir/pid") =~ /^(\d+)/;
	}
	is_deeply(\@failed, [], 'and at once after kill -9, though the master and its children are still dying');
	is((tool('-s', 'quit', '-c', "$dir/conf"))[0], 0, '-s quit');
	ok((wait_until { !kill 0, $pid } 20), '... stops it, too');
};

subtest 'names, privileges, modes' => sub {
	my $dir = tempdir(CLEANUP => 1);
	chmod 0755, $dir;
	my $tallyd = Tallyd->start(config => { data_directory => "$dir/data", $is_root ? (user => 'nobody') : () },
		data_dir => "$dir/data", listen => [['127.0.0.1:0', {}], ['unix:%DIR%/socket', { mode => '0640' }]]);
	$tallyd->event('a', 1);
	is_deeply([sort map { $_->{comm} } $tallyd->children],
		[qw(tallyd-journal tallyd-worker tallyd-worker)], 'the processes have names');
	is((stat $tallyd->dir . '/socket')[2] & 0777, 0640, 'the socket has the mode of the configuration');
	my @open = grep { (stat $_)[2] & 077 } "$dir/data", glob("$dir/data/*"), glob("$dir/data/*/*");
	is_deeply(\@open, [], 'the data is for its owner only');
	SKIP: {
		skip 'only root can become somebody else', 6 unless $is_root;
		my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
		my %wrong;
		for my $child ($tallyd->children) {
			my $status = slurp("/proc/$child->{pid}/status");
			$wrong{"$child->{comm} uid"} = 1 unless $status =~ /^Uid:(\s+$uid){4}$/m;
			$wrong{"$child->{comm} gid"} = 1 unless $status =~ /^Gid:(\s+$gid){4}$/m;
			$wrong{"$child->{comm} groups"} = $1 if $status =~ /^Groups:\s*(.*?)\s*$/m && $1 ne '' && $1 ne $gid;
			# Without capabilities and with the saved id gone, there is no way back.
			$wrong{"$child->{comm} $1"} = $2 while $status =~ /^Cap(Inh|Prm|Eff|Amb):\s+0*([1-9a-f]\w*)/mg;
		}
		is_deeply(\%wrong, {}, 'the children are nobody, and nothing else');
		my @foreign = grep { (stat $_)[4] != $uid } "$dir/data", glob("$dir/data/{journal,snapshots}"),
			glob("$dir/data/*/*");
		is_deeply(\@foreign, [], 'the journal and the snapshots are theirs');
		like(slurp('/proc/' . $tallyd->pid . '/status'), qr/^Uid:(\s+0){4}$/m, 'the master is root');
		is($tallyd->stop, 0, 'it stops');
		$tallyd->start_again;
		is($tallyd->balance('a'), 1, 'the data is found again');
		ok(-d "$dir/data", 'with its directory');
	}
	is($tallyd->stop, 0, 'the end');
};

# The log's directory is often the user's, and a worker may have been taken over.
subtest 'a log that leads elsewhere' => sub {
	plan skip_all => 'only root can become somebody else' unless $is_root;
	my $dir = tempdir(CLEANUP => 1);
	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
	mkdir "$dir/log" or die $!;
	chown $uid, $gid, "$dir/log" or die $!;
	chmod 0755, $dir;
	open my $other, '>', "$dir/other" or die $!;
	close $other;
	my $tallyd = Tallyd->start(config => { user => 'nobody', log => "$dir/log/log", workers => 1,
		data_directory => "$dir/data" }, data_dir => "$dir/data");
	my $refused = 0;
	for my $link (sub { symlink $_[0], $_[1] }, sub { link $_[0], $_[1] }) {
		rename "$dir/log/log", "$dir/log/old" or die $!;
		$link->("$dir/other", "$dir/log/log") or die $!;
		$tallyd->usr1;
		$refused++;
		ok((wait_until {
			$refused == (() = slurp("$dir/log/old") =~ /master error: cannot reopen the log/g);
		} PROMPTLY), 'it is not opened anew');
		is_deeply([(stat "$dir/other")[4, 7]], [0, 0], 'the other file is not given away, nor written');
		rename "$dir/log/old", "$dir/log/log" or die $!;
	}
	is($tallyd->stop, 0, 'it stops');
	rename "$dir/log/log", "$dir/log/old" or die $!;
	symlink "$dir/other", "$dir/log/log" or die $!;
	$tallyd->start_again(expect_failure => 1);
	is($tallyd->exit_status, 2, 'nor does it start so');
	is_deeply([(stat "$dir/other")[4, 7]], [0, 0], 'and the other file is not given away, nor written');
};

done_testing();
