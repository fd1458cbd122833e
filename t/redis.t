#!/usr/bin/perl
# Redis' protocol at tallyd: what Redis has not (floors, ids, holds, statements, durability), one
# transaction whatever comes between, its bounds, and what becomes of it when processes die.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::IP;
use Redis;
use Tallyd qw(build_dir patience send_all slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	PUT_OFF      => 400,       # lines whose answers are more than may wait for a client
	PIPELINED    => 20_000,    # commands that a client sends before it reads
	RACERS       => 4,
	ROUNDS       => 150,       # of a racer
	TELLERS      => 3,
	ACCOUNTS     => 6,
	START        => 1000,      # in each account of the bank
	BANK_SECONDS => 2,
	STORM_KILLS  => 12,
	COUNTERS     => 3,         # clients that count while workers die
	TOO_MUCH     => 40_000,    # kB by which a client that does not read may make a worker grow
};

my %LISTEN = (listen => [['127.0.0.1:0', { protocol => 'http' }], ['127.0.0.1:0', { protocol => 'redis' }], ['unix:%DIR%/redis', { protocol => 'redis' }]]);
my $tallyd = Tallyd->start(%LISTEN, config => { workers => 2, respawn_backoff => 0, header_timeout => 1 });

sub client { return Redis->new($tallyd->address(1)) }

my $redis = client();
sub said { return Redis::show($redis->ask(@_)) }

# What REPLY, a map as RESP2 has it, says.
sub map_of { my ($reply) = @_; return ref $reply eq 'ARRAY' ? { map { ref $_ eq 'HASH' ? values %$_ : $_ } @$reply } : { error => Redis::show($reply) } }

sub http { return $tallyd->call(@_)->{json} }

# ---- what Redis has not

sub test_rules {
	http('PUT', '/accounts/poor', { floor => 0, ceiling => 100 });
	is(said('INCRBY', 'poor', 30), 'int(30)', 'an account that HTTP made');
	like(said('DECRBY', 'poor', 31), qr/^error\(INSUFFICIENT_FUNDS .*available 30, required 31/, 'its floor holds');
	like(said('INCRBY', 'poor', 71), qr/^error\(CEILING_EXCEEDED /, 'and its ceiling');
	like(said('SET', 'poor', 101), qr/^error\(CEILING_EXCEEDED /, 'for SET as well');
	is(said('SET', 'poor', 100), 'simple(OK)', 'up to it');
	is(said('GET', 'poor'), '"100"', 'which is what it is then');
	is(http('GET', '/accounts/poor')->{balance}, 100, 'for HTTP, too');
	http('PUT', '/accounts/ice', { frozen => 'all' });
	like(said('INCR', 'ice'), qr/^error\(ACCOUNT_FROZEN /, 'frozen is frozen');
	is(said('INCR', 'fine', 'x' x 3), "error(ERR wrong number of arguments for 'incr' command)", 'an error costs nothing');
	for my $name ('', 'x' x 101, "a\nb", "\xff") {
		like(said('INCR', $name), qr/^error\(ERR invalid_account: /, 'no account is called ' . Redis::show($name));
		is(said('GET', $name), 'nil', '  so there is none');
	}
	like(said('SET', 'word', 'hello'), qr/not an integer/, 'a balance is a number');
	is(said('GET', 'word'), 'nil', 'nothing else becomes one');
	is(said('DEL', 'poor', 'ice'), 'int(2)', 'accounts go with what is in them');
	is($tallyd->call('GET', '/accounts/poor')->{status}, 404, 'for HTTP, too');
	return;
}

sub test_tally {
	my $first = map_of($redis->ask('TALLY.EVENT', 'ann', 50, 'ID', 'e-1', 'NOTE', 'a note'));
	is("$first->{account} $first->{balance} $first->{version} $first->{replayed}", 'ann 50 1 0', 'TALLY.EVENT');
	my $again = map_of($redis->ask('tally.event', 'ann', 50, 'note', 'a note', 'id', 'e-1'));
	is("$again->{balance} $again->{lsn} $again->{replayed}", "50 $first->{lsn} 1", 'the same again is the same');
	like(said('TALLY.EVENT', 'ann', 51, 'ID', 'e-1'), qr/^error\(ID_REUSED /, 'another with its id is none');
	my $moved = map_of($redis->ask('TALLY.TRANSFER', 'ann', 'bea', 20, 'ID', 't-1'));
	is("$moved->{from} $moved->{from_balance} $moved->{to} $moved->{to_balance}", 'ann 30 bea 20', 'TALLY.TRANSFER');
	like(said('TALLY.TRANSFER', 'ann', 'ann', 1), qr/^error\(SAME_ACCOUNT /, 'not to oneself');
	like(said('TALLY.TRANSFER', 'ann', 'bea', 0), qr/^error\(ERR invalid_amount: /, 'nor of nothing');
	my $held = map_of($redis->ask('TALLY.HOLD', 'ann', 10, 60, 'ID', 'h-1'));
	is("$held->{hold} $held->{account} $held->{amount} $held->{balance} $held->{held}", 'h-1 ann 10 30 10', 'TALLY.HOLD');
	like($held->{expires}, qr/^\d{4}-\d\d-\d\dT[\d:.]+Z$/, '  with its end');
	my $other = map_of($redis->ask('TALLY.HOLD', 'ann', 1, 60));
	like($other->{hold}, qr/^[0-9a-f]{32}$/, '  that is given a name');
	my $captured = map_of($redis->ask('TALLY.CAPTURE', 'h-1', 'TO', 'bea', 'AMOUNT', 4, 'ID', 'c-1'));
	is("$captured->{account} $captured->{captured} $captured->{balance} $captured->{held}", 'ann 4 26 1', 'TALLY.CAPTURE');
	is(said('GET', 'bea'), '"24"', '  for somebody');
	my $released = map_of($redis->ask('TALLY.RELEASE', $other->{hold}));
	is("$released->{balance} $released->{held}", '26 0', 'TALLY.RELEASE');
	like(said('TALLY.CAPTURE', $other->{hold}), qr/^error\(HOLD_SETTLED /, 'only once');
	like(said('TALLY.RELEASE', 'nothing'), qr/^error\(UNKNOWN_HOLD /, 'only what there is');
	for my $wrong ([qw(TALLY.EVENT ann)], [qw(TALLY.EVENT ann 1 ID)], [qw(TALLY.EVENT ann 1 WHAT x)], [qw(TALLY.EVENT ann x)], [qw(TALLY.EVENT ann 1 ID), ''], [qw(TALLY.EVENT ann 1 NOTE), "\1"],
		[qw(TALLY.HOLD ann 1 0)], [qw(TALLY.HOLD ann -1 60)], [qw(TALLY.RELEASE h AMOUNT 1)], [qw(TALLY.CAPTURE h AMOUNT -1)], [qw(TALLY.STATEMENT ann LIMIT 0)], [qw(TALLY.STATEMENT ann LIMIT 51)]) {
		like(said(@$wrong), qr/^error\(ERR /, "not: " . join " ", map { s/[^!-~]/?/gr } @$wrong);
	}
	is(said('GET', 'ann'), '"26"', 'which changed nothing');
	return;
}

sub test_statement {
	my @all = map { map_of($_) } @{ $redis->ask('TALLY.STATEMENT', 'ann') };
	is(join(' ', map { "$_->{type}:$_->{amount}=$_->{balance}" } @all), 'release:0=26 capture:-4=26 hold:0=30 hold:0=30 transfer:-20=30 event:50=50', 'a statement, the newest first');
	is("$all[-1]{id} $all[-1]{note}", 'e-1 a note', 'with id and note');
	is($all[4]{counterparty}, 'bea', 'and who else');
	my @page = map { map_of($_) } @{ $redis->ask('TALLY.STATEMENT', 'ann', 'LIMIT', 2, 'BEFORE', $all[3]{lsn}) };
	is(join(' ', map { $_->{type} } @page), 'transfer event', 'a page of it');
	like(said('TALLY.STATEMENT', 'nobody'), qr/^error\(UNKNOWN_ACCOUNT /, 'of those who are there');
	my $resp3 = client();
	$resp3->ask('HELLO', 3);
	like(Redis::show($resp3->ask('TALLY.STATEMENT', 'ann', 'LIMIT', 1)), qr/^\[\{"lsn" "\d+" "time" "[^"]+" "type" "release" /, 'as maps in RESP3');
	# Long, and old: read from the files, in slices, while others are served.
	$redis->send_commands(map { ['INCRBY', 'long', $_] } 1 .. 2000);
	$redis->reply for 1 .. 2000;
	my ($lsn, @seen) = (0);
	while (1) {
		my @entries = map { map_of($_) } @{ $redis->ask('TALLY.STATEMENT', 'long', 'LIMIT', 50, $lsn ? ('BEFORE', $lsn) : ()) } or last;
		push @seen, map { $_->{amount} } @entries;
		$lsn = $entries[-1]{lsn};
	}
	is(join(' ', @seen), join(' ', reverse 1 .. 2000), 'page by page, all of it');
	return;
}

# ---- one operation

# Runs BODY for each of 1 .. COUNT in a process of its own; true if all of them end well.
sub in_processes {
	my ($count, $body) = @_;
	my @pids = map {
		my $number = $_;
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			my $ok = eval { $body->($number); 1 };
			print STDERR "# $@" unless $ok;
			POSIX::_exit($ok ? 0 : 1);
		}
		$pid;
	} 1 .. $count;
	return @pids;
}

sub all_well { return !grep { waitpid($_, 0); $? } @_ }

# Each adds one by reading, and writing what it has read plus one: only if nobody came between.
sub test_watch {
	$redis->ask('SET', 'race', 0);
	my @pids = in_processes(RACERS, sub {
		my $one = client();
		for (1 .. ROUNDS) {
			while (1) {
				$one->ask('WATCH', 'race');
				my $seen = $one->ask('GET', 'race');
				$one->send_commands(['MULTI'], ['SET', 'race', $seen + 1], ['INCRBY', "race:$_[0]", 1], ['EXEC']);
				my @said = map { $one->reply } 1 .. 4;
				last if ref $said[3] eq 'ARRAY';
				die Redis::show($said[3]) if defined $said[3];
			}
		}
	});
	ok(all_well(@pids), 'who watches is told who came between');
	is(said('GET', 'race'), '"' . RACERS * ROUNDS . '"', 'nobody\'s step was lost');
	is(said('GET', "race:$_"), '"' . ROUNDS . '"', "... of $_") for 1 .. RACERS;
	return;
}

# Money only moves: by MULTI, by TALLY.TRANSFER and by HTTP, while everybody looks at all of it at once.
sub test_bank {
	my @accounts = map { "bank:$_" } 1 .. ACCOUNTS;
	$redis->ask('SET', $_, START) for @accounts;
	my $end = time + BANK_SECONDS;
	my @pids = in_processes(TELLERS + 2, sub {
		my ($number) = @_;
		my $one = client();
		my $rounds = 0;
		while (time < $end || $rounds < 20) {
			$rounds++;
			my ($from, $to) = @accounts[(int rand ACCOUNTS), (int rand ACCOUNTS)];
			next if $from eq $to;
			if ($number == 1) {
				my $sum = 0;
				$sum += $_ for @{ $one->ask('MGET', @accounts) };
				die "at one moment there were $sum" if $sum != ACCOUNTS * START;
			} elsif ($number == 2) {
				$tallyd->call('POST', '/transfers', { from => $from, to => $to, amount => 1 });
			} elsif (rand() < 0.3) {
				$one->ask('TALLY.TRANSFER', $from, $to, 3);
			} else {
				$one->send_commands(['MULTI'], ['DECRBY', $from, 7], ['INCRBY', $to, 7], ['MGET', @accounts], ['EXEC']);
				$one->reply for 1 .. 4;
				my $said = $one->reply;
				die Redis::show($said) if ref $said ne 'ARRAY';
				my $sum = 0;
				$sum += $_ for @{ $said->[2] };
				die "within a transaction there were $sum" if $sum != ACCOUNTS * START;
			}
		}
	});
	ok(all_well(@pids), 'the total is the same at every moment');
	my $sum = 0;
	$sum += $_ for @{ $redis->ask('MGET', @accounts) };
	is($sum, ACCOUNTS * START, 'and at the end');
	return;
}

# ---- bounds

sub test_bounds {
	my $one = client();
	my $show = sub { return Redis::show($one->ask(@_)) };
	$one->ask('MULTI');
	is($show->('INCR', "many:$_"), 'simple(QUEUED)', 'seventeen') for 1 .. 17;
	my $said = Redis::show($one->ask('EXEC'));
	like($said, qr/at most 16 accounts/, 'accounts are one too many for a transaction');
	is($show->('EXISTS', map { "many:$_" } 1 .. 17), 'int(0)', '  so that none of it is applied');
	is($show->('MGET', map { "many:$_" } 1 .. 20) =~ tr/n//, 20, 'more can be read outside of one');
	$one->ask(@$_) for ['MULTI'], ['INCR', 'many:1'], ['INCR', 'x' x 101], ['INCR', 'many:2'];
	like($show->('EXEC'), qr/^error\(ERR invalid_account: /, 'what no account is called is nothing to change');
	is($show->('EXISTS', 'many:1', 'many:2'), 'int(0)', '  nor is the rest applied then');
	like($show->('WATCH', map { "watch:$_" } 1 .. 17), qr/at most 16 accounts/, 'nor are more watched');
	$one->ask('UNWATCH');
	$one->ask('MULTI');
	my $queued = 0;
	$queued++ while $queued < 1000 && $show->('PING') eq 'simple(QUEUED)';
	is($queued, 256, 'a transaction has up to 256 commands');
	is($show->('EXEC'), 'error(EXECABORT Transaction discarded because of previous errors.)', '  else it is none');
	$one->ask('MULTI');
	$queued = 0;
	$queued++ while $queued < 1000 && $show->('ECHO', 'x' x 1000) eq 'simple(QUEUED)';
	cmp_ok($queued, '>', 8, 'and some bytes');
	cmp_ok($queued, '<', 17, '  but not many');
	$one->ask('DISCARD');
	is($show->('MULTI'), 'simple(OK)', 'another may follow');
	like($show->('DEL', 'x'), qr/not allowed inside a transaction/, 'DEL is none of its commands');
	is($show->('EXEC'), 'error(EXECABORT Transaction discarded because of previous errors.)', '  so it is given up');
	is(length $one->ask('ECHO', 'x' x 60_000), 60_000, 'a long word');
	like($show->('SCAN', 0, 'MATCH', '*[' . 'a' x 253 . ']'), qr/^\["\d+" \[/, 'a pattern of 256 bytes');
	is($show->('SCAN', 0, 'MATCH', '*[' . 'a' x 254 . ']'), 'error(ERR a pattern has at most 256 bytes here)', '  and no more');
	is($show->('EXISTS', map { "none:$_" } 1 .. 1023), 'int(0)', '1024 words');
	like($show->('EXISTS', map { "none:$_" } 1 .. 1024), qr/^error\(ERR Protocol error: invalid multibulk length/, 'one more is none');
	ok($one->closed, '  and the end');
	$one = client();
	$one->send_raw("*2\r\n\$4\r\nECHO\r\n\$65000\r\n" . 'x' x 65_000 . "\r\n");
	is(length $one->reply, 65_000, 'nearly all that a command may be');
	$one->send_raw("*2\r\n\$4\r\nECHO\r\n\$65536\r\n" . 'x' x 65_536);
	like(Redis::show($one->reply), qr/Protocol error: the command is too long/, 'more is too much');
	$one = client();
	$one->send_raw('x' x 5000);
	like(Redis::show($one->reply), qr/too big inline request/, 'so is a long line');
	return;
}

# Who sends one behind the other waits for room in the queue, whatever he sends; each command has its
# reply, and the right one.
sub test_full {
	my $small = Tallyd->start(listen => $LISTEN{listen}, config => { workers => 1, queue_events => 2, journal_delay => 50 });
	my $one = Redis->new($small->address(1));
	my $many = 10;
	$one->send_commands(map { (['SET', 'full', $_], ['ECHO', "set-$_"]) } 1 .. $many);
	is(join(' ', map { Redis::show($one->reply) } 1 .. 2 * $many), join(' ', map { qq{simple(OK) "set-$_"} } 1 .. $many), 'a full queue makes SET wait');
	$one->send_commands(map { (['MULTI'], ['INCRBY', 'full', 1], ['INCRBY', 'fuller', 2], ['EXEC']) } 1 .. $many);
	is(join(' ', map { Redis::show($one->reply) } 1 .. 4 * $many), join(' ', map { 'simple(OK) simple(QUEUED) simple(QUEUED) [int(' . ($many + $_) . ') int(' . 2 * $_ . ')]' } 1 .. $many), '... and EXEC');
	$one->send_commands(map { (['TALLY.EVENT', 'full', 1, 'ID', "full-$_"], ['DEL', 'fuller'], ['INCRBY', 'fuller', 0]) } 1 .. $many);
	is(join(' ', map { map_of($one->reply)->{balance} . ' ' . join ' ', map { Redis::show($one->reply) } 1 .. 2 } 1 .. $many), join(' ', map { 2 * $many + $_ . ' int(1) int(0)' } 1 .. $many), '... and TALLY.EVENT, DEL and INCRBY 0');
	is($small->stop, 0, 'it stops');
	return;
}

sub test_slow {
	my $one = client();
	my $bytes = Redis::command('INCRBY', 'slow', 5) . "INCR slow\r\n" . Redis::command('GET', 'slow');
	$one->send_raw($_) for split //, $bytes;
	is(join(' ', map { Redis::show($one->reply) } 1 .. 3), 'int(5) int(6) "6"', 'a byte at a time');
	$one->send_raw("*2\r\n\$4\r\n");
	like(Redis::show($one->reply), qr/the command came too slowly/, 'but not for ever');
	ok($one->closed, '  that is the end');
	return;
}

# Lines with quotes that cannot be answered yet, because their client has much to take first, mean the
# same when they are read again.
sub test_put_off {
	my $one = client();
	my $wanted = Redis::show($one->ask('COMMAND', 'INFO'));
	$one->send_raw("COMMAND \"INFO\"\r\n" x PUT_OFF . "INCRBY \"put off\" '7'\r\nINCRBY put-off 1\r\nGET 'put off'\r\n");
	my @said = map { eval { Redis::show($one->reply) } // 'closed' } 1 .. PUT_OFF + 3;
	is(join(' ', splice @said, PUT_OFF), 'int(7) int(1) "7"', 'lines with quotes can wait');
	is(scalar(grep { $_ ne $wanted } @said), 0, '  however many there are');
	return;
}

# HTTP that a browser was made to send here is not taken for commands.
sub test_http {
	my $one = client();
	$one->send_raw("POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET stolen 1\r\n");
	like(Redis::show($one->reply), qr/no listener of HTTP/, 'a request of HTTP is refused');
	ok($one->closed, '  with all that follows');
	is(said('GET', 'stolen'), 'nil', '  which is not done');
	return;
}

sub resident { return (slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+) kB/m)[0] }

# A client that sends and sends, and reads nothing, until the daemon reads no more either.
sub test_pipeline {
	my $one = client();
	my @workers = map { $_->{pid} } $tallyd->children('worker');
	my %before = map { $_ => resident($_) } @workers;
	my $bytes = join '', map { Redis::command('INCRBY', 'deep', 1) } 1 .. PIPELINED;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		my $ok = eval { send_all($one->socket, $bytes, 60); 1 };
		POSIX::_exit($ok ? 0 : 1);
	}
	# Others are served meanwhile.
	is(said('PING'), 'simple(PONG)', 'others are served') for 1 .. 3;
	my @replies = map { $one->reply } 1 .. PIPELINED;
	my ($error) = grep { exists $_->{error} } @replies;
	is($error && $error->{error}, undef, "none is refused");
	my @said = map { $_->{int} // 0 } @replies;
	waitpid $pid, 0;
	is($?, 0, 'all of it is taken');
	is(scalar(grep { $said[$_ - 1] != $_ } 1 .. PIPELINED), 0, 'any number of commands is answered in order');
	cmp_ok(resident($_) - $before{$_}, '<', TOO_MUCH, 'in bounded memory') for @workers;
	return;
}

# ---- what is counted and logged

sub metric { my ($name) = @_; my $page = $tallyd->request('GET', '/metrics')->{body}; return $page =~ /^\Q$name\E (\S+)$/m ? $1 : 0 }

sub test_counted {
	my %name = (requests => 'tallyd_requests_total{method="redis",endpoint="command",status="200"}', accepted => 'tallyd_events_total{outcome="accepted",reason=""}',
		refused => 'tallyd_events_total{outcome="refused",reason="insufficient_funds"}', waiting => 'tallyd_answers_waiting');
	http('PUT', '/accounts/counted', { floor => 0 });
	my %before = map { $_ => metric($name{$_}) } keys %name;
	$redis->send_commands((['INCR', 'counted']) x 40, ['SET', 'counted', 5], ['GET', 'counted'], ['DECRBY', 'counted', 6], ['MULTI'], ['INCR', 'counted'], ['DECR', 'counted'], ['INCR', 'counted'], ['EXEC']);
	$redis->reply for 1 .. 48;
	is(metric($name{requests}) - $before{requests}, 47, 'commands are counted');
	is(metric($name{accepted}) - $before{accepted}, 42, 'operations as well, a transaction as one');
	is(metric($name{refused}) - $before{refused}, 1, 'and what was refused');
	is(metric($name{waiting}), 0, 'no answer is missing');
	return;
}

# ---- deaths

# Clients count up, each its own account; workers and the journal writer are killed all the time.  What
# was answered is there; what was not, may be.
sub test_storm {
	my $dir = $tallyd->dir;
	my $stop = "$dir/stop";
	my $parent = $$;
	my @pids = in_processes(COUNTERS, sub {
		my ($number) = @_;
		my ($told, $asked) = (0, 0);
		until (-e $stop || getppid != $parent) {
			my $one = eval { client() };
			sleep 0.01;
			next unless $one;
			eval {
				while (!-e $stop) {
					$one->send_commands((['INCR', "storm:$number"]) x 5);
					$asked += 5;
					$told = $one->reply->{int} for 1 .. 5;
				}
			};
		}
		open my $file, '>', "$dir/counter.$number" or die "cannot write: $!";
		print {$file} "$told $asked\n";
		close $file or die "cannot write: $!";
	});
	for (1 .. STORM_KILLS) {
		my @children = $tallyd->children;
		my $one = $children[rand @children];
		kill KILL => $one->{pid} if $one;
		wait_until { $tallyd->serves } 10;
		sleep 0.05;
	}
	open my $file, '>', $stop or die "cannot write: $!";
	close $file;
	ok(all_well(@pids), 'clients go on through deaths');
	$redis = client();
	for my $number (1 .. COUNTERS) {
		my ($told, $asked) = split ' ', slurp("$dir/counter.$number");
		my $is = $redis->ask('GET', "storm:$number") // 0;
		cmp_ok($told, '>', 0, "$number: was answered");
		cmp_ok($is, '>=', $told, "$number: what was answered is there ($told of $asked, $is)");
		cmp_ok($is, '<=', $asked, "$number: nothing else is");
	}
	return;
}

sub test_restart {
	my @balances = @{ $redis->ask('MGET', map { "storm:$_" } 1 .. COUNTERS) };
	my $count = $redis->ask('DBSIZE')->{int};
	$tallyd->kill9;
	$tallyd->start_again;
	$redis = client();
	is(Redis::show($redis->ask('MGET', map { "storm:$_" } 1 .. COUNTERS)), Redis::show(\@balances), 'what was read is there after a crash');
	is($redis->ask('DBSIZE')->{int}, $count, 'all of it');
	my $unix = Redis->new('unix:' . $tallyd->dir . '/redis');
	is(Redis::show($unix->ask('PING')), 'simple(PONG)', 'also on a Unix socket');
	return;
}

# It tells what the disk has by the word that Redis has for it.
sub test_appendfsync {
	my $lax = Tallyd->start(listen => $LISTEN{listen}, config => { sync => 'interval' });
	my @told = map { Redis::show(Redis->new($_->address(1))->ask('CONFIG', 'GET', 'appendfsync')) } $tallyd, $lax;
	is("@told", '["appendfsync" "always"] ["appendfsync" "everysec"]', 'appendfsync, with sync = always and interval');
	is($lax->stop, 0, 'it stops');
	return;
}

# A drain answers what has been sent, then ends the connection; also one that is in MULTI, and one that is idle.
sub test_drain {
	my ($busy, $open, $idle) = map { client() } 1 .. 3;
	is(Redis::show($_->ask('PING')), 'simple(PONG)', 'before a reload') for $busy, $open, $idle;
	$open->ask('MULTI');
	$open->ask('INCR', 'never');
	my $mark = $tallyd->log_mark;
	$busy->send_commands((['INCR', 'drained']) x 100);
	$tallyd->hup;
	$tallyd->wait_log(qr/reloaded/, 10, $mark);
	is(scalar(grep { (eval { $busy->reply->{int} } || 0) == $_ } 1 .. 100), 100, 'a reload answers what was sent');
	$redis = client();
	is(said('GET', 'drained'), '"100"', 'new connections are served');
	$redis->send_commands((['INCR', 'drained']) x 100);
	$tallyd->term;
	is(scalar(grep { (eval { $redis->reply->{int} } || 0) == 100 + $_ } 1 .. 100), 100, 'so does the end');
	ok($redis->closed, '  which closes');
	ok(eval { $open->closed }, 'a transaction that was not finished is none');
	is($tallyd->wait_exit, 0, 'it stops in order');
	return;
}

test_rules;
test_tally;
test_statement;
test_watch;
test_bank;
test_bounds;
test_full;
test_slow;
test_put_off;
test_http;
test_pipeline;
test_counted;
test_storm;
test_restart;
test_appendfsync;
test_drain;

my $check = build_dir() . '/tallyctl';
is(system("$check -d '" . $tallyd->data_dir . "' journal check >/dev/null"), 0, 'the journal is sound');
done_testing;
