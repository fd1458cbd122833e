#!/usr/bin/perl
# The chat: everybody reads what everybody else says, in one order, on whichever worker they sit;
# names; lines; limits; who is slow; the past, in memory and in a file; and balances as they change.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Chat qw(read_all);
use Digest::SHA qw(sha256_hex);
use POSIX qw(strftime);
use Tallyd qw(patience slurp source_dir wait_until);
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	WORKERS  => 3,
	CROWD    => 12,
	LINES    => 25,     # that a talker says at once: fewer than CHAT_BURST
	BURST    => 30,     # CHAT_BURST
	RATE     => 10,     # CHAT_RATE
	GREETING => 50,     # CHAT_GREETING
	LONGEST  => 512,    # CHAT_LINE_MAX
	MEMBERS  => 512,    # ROOM_MEMBERS_MAX
	WAITING  => 4000,   # clients at the door
	KEPT     => 1024,   # ROOM_LINES
	TALKERS  => 20,
	RACES    => 10,
	READ     => 131_072, # CHAT_HISTORY_READ
	CHANGES  => 200,
	QUICK    => 0.1,    # seconds from one client to another, of a machine that has nothing else to do
	IDLE     => 0.05,   # of a second's processor time that idle workers may use
};

# As many open files as the limit lets one have.
unless ($ENV{TALLYD_TEST_FILES}) {
	$ENV{TALLYD_TEST_FILES} = 1;
	exec 'sh', '-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', 'sh', $^X, (map { "-I$_" } "$FindBin::RealBin/lib"), $0, @ARGV;
}

my $tallyd;

sub begin {
	my (%config) = @_;
	$tallyd = Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'chat' }], ['unix:%DIR%/chat', { protocol => 'chat' }]],
		config => { workers => WORKERS, respawn_backoff => 0, %config });
	return;
}

# Whoever is still there need not be waited for.
sub stops {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Chat->close_all;
	is($tallyd->stop, 0, 'it stops');
	return;
}

sub client { my ($name, $listener) = @_; my $client = Chat->new($tallyd, $listener || 1); return defined $name ? $client->name($name) : $client }

sub metric {
	my ($name) = @_;
	my $page = $tallyd->request('GET', '/metrics')->{body};
	my $sum = 0;
	$sum += $_ for $page =~ /^\Q$name\E(?:\{.*\})? (\S+)$/mg;
	return $sum;
}

# How many workers have clients of the chat.
sub inhabited {
	my %slots = map { /^tallyd_connections\{slot="(\d+)",state="streaming"\} [1-9]/ ? ($1 => 1) : () } split /\n/, $tallyd->request('GET', '/metrics')->{body};
	return scalar keys %slots;
}

# COUNT clients, and more until every worker has one.
sub crowd {
	my ($count) = @_;
	my @clients = map { client() } 1 .. $count;
	push @clients, client() while inhabited() < WORKERS && @clients < 20 * $count;
	is(inhabited(), WORKERS, scalar(@clients) . ' clients sit on ' . WORKERS . ' workers');
	return @clients;
}

# ---- what is said

sub test_words {
	my ($alice, $bob) = (client('alice'), client());
	ok($alice->sees(qr/^\[\d\d:\d\d:\d\d\] \*\*\* guest\d+ has joined$/), 'who enters is told of');
	$bob->name('bob');
	ok($alice->sees(qr/^\[[\d:]+\] \*\*\* guest\d+ is now bob$/), '... and how he is called then');
	$alice->say('hello there');
	ok($bob->sees(qr/^\[[\d:]+\] <alice> hello there$/), 'what one says the other reads');
	$bob->say('/me waves');
	ok($alice->sees(qr/^\[[\d:]+\] \* bob waves$/), '... and what he does');
	$alice->say('/list');
	ok($alice->sees(qr/^\*\*\* here are: (?:alice bob|bob alice)$/), '/list');
	$alice->say('/help');
	ok($alice->sees(qr{^\*\*\* /quit}), '/help');
	$alice->say('//etc');
	ok($bob->sees(qr{<alice> /etc$}), 'what begins with a slash can be said');
	$alice->say('/dance wildly');
	ok($alice->sees(qr{^\*\*\* there is no /dance;}), 'what is no command is refused');
	$alice->say('/me');
	ok($alice->sees(qr{^\*\*\* /me WHAT}), '... and /me without more');
	$alice->say("   \r");
	$alice->send("by telnet\r\n");
	ok($bob->sees(qr/<alice> by telnet$/), 'CR LF is an end of a line, too');
	$alice->send('in ');
	$alice->send("pie");
	sleep 0.02;
	$alice->send("ces\nand more");
	ok($bob->sees(qr/<alice> in pieces$/), 'a line may come in pieces');
	$alice->send("\n");
	ok($bob->sees(qr/<alice> and more$/), '... and so the next');
	is(scalar(grep { /<alice>/ } $alice->lines), 0, 'nobody reads what he said himself');
	$bob->say('/quit');
	ok($bob->sees(qr/^\*\*\* good-bye$/) && $bob->ends, '/quit ends it');
	ok($alice->sees(qr/\*\*\* bob has left$/), '... and is told of');
	my $carol = client('carol');
	$carol->close;
	ok($alice->sees(qr/\*\*\* carol has left$/), 'so is who is suddenly gone');
	my $half = client('half');
	$half->send("/list\nlast words");
	shutdown $half->socket, 1;
	ok($alice->sees(qr/<half> last words$/), 'who has said all is heard');
	ok($half->ends && (grep { /here are: .*alice/ } $half->lines), '... and answered');
	$alice->close;
	return;
}

sub test_cleaning {
	my ($alice, $bob) = (client('alice'), client('bob'));
	my %said = (
		"a\tb"                      => 'a b',
		"a\e[31mb\e]0;x\ac"         => 'a?[31mb?]0;x?c',
		"nul\0del\x7f"              => 'nul?del?',
		"cr\rin"                    => 'cr?in',
		"caf\xe9 \xff\xfb"          => 'caf? ??',
		"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" => "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
		"c1 \xc2\x9b1m"             => 'c1 ?1m',
		"bidi \xe2\x80\xae\xe2\x81\xa6x" => 'bidi ??x',
		"sep \xe2\x80\xa8x"         => 'sep ?x',
		"overlong \xc0\xaf"         => 'overlong ??',
		"surrogate \xed\xa0\x80"    => 'surrogate ???',
		"  spaces  "                => 'spaces',
	);
	for my $raw (sort keys %said) {
		$alice->send("$raw\n");
		ok($bob->sees(qr/<alice> /), 'a line');
		is(substr($bob->found, 11), "<alice> $said{$raw}", '... as a terminal may have it');
	}
	$_->close for $alice, $bob;
	return;
}

sub test_bounds {
	my ($alice, $bob) = (client('alice'), client('bob'));
	$alice->say('x' x LONGEST);
	ok($bob->sees(qr/<alice> x{512}$/), 'the longest line');
	$alice->send('y' x LONGEST . "\r\n");
	ok($bob->sees(qr/<alice> y{512}$/), '... with CR LF');
	$alice->say('z' x (LONGEST + 1));
	ok($alice->sees(qr/^\*\*\* that line is too long and was not said: at most 512 bytes$/), 'a longer one is refused');
	$alice->send('z' x 10_000) for 1 .. 20;
	$alice->send("zzz\nafter it\n");
	ok($alice->sees(qr/^\*\*\* that line is too long/), '... a much longer one, too');
	ok($bob->sees(qr/<alice> after it$/), '... and the next is said');
	is(scalar(grep { /zz/ } $bob->lines), 0, '... nothing of them was');
	for my $name ('', 'a' x 25, 'a b', '<a>', "\xc3\xa9", '***') {
		$alice->say("/nick $name");
		ok($alice->sees(qr/^\*\*\* a name has 1 to 24 letters/), "\"$name\" is no name");
	}
	$alice->name('A' x 24);
	$_->close for $alice, $bob;
	return;
}

# Several say much at once; all read all of it in the same order.
sub test_order {
	my @all = crowd(CROWD);
	my @talkers = @all[0 .. 5];
	$talkers[$_]->name("talker$_") for 0 .. $#talkers;
	for my $line (1 .. LINES) {
		$talkers[$_]->send("line $line of $_\n") for 0 .. $#talkers;
	}
	my $total = LINES * @talkers;
	my %talks = map { $_ => 1 } @talkers;
	ok(read_all(sub { !grep { scalar(grep { /> line/ } $_->heard) < $total - ($talks{$_} ? LINES : 0) } @all }, 0, @all), "everybody reads all $total lines");
	my @order = grep { /> line/ } $all[-1]->heard;
	is(scalar @order, $total, '... once');
	my $differ = 0;
	for my $client (@all) {
		my $own = $client->called // '';
		my @expected = grep { !/^<\Q$own\E>/ } @order;
		$differ++ unless join("\n", grep { /> line/ } $client->heard) eq join "\n", @expected;
	}
	is($differ, 0, '... in the same order, but for their own');
	my $wrong = 0;
	for my $talker (0 .. $#talkers) {
		my @numbers = map { /> line (\d+) of $talker$/ ? $1 : () } @order;
		$wrong++ unless "@numbers" eq join ' ', 1 .. LINES;
	}
	is($wrong, 0, '... in which each said them');
	$_->close for @all;
	return;
}

sub test_names {
	my @all = crowd(CROWD);
	for my $race (1 .. RACES) {
		$_->send("/nick winner$race\n") for @all;
		my $pattern = qr/^\*\*\* (?:you are now|somebody else is) winner$race$/;
		ok(read_all(sub { !grep { !grep { $_ =~ $pattern } $_->lines } @all }, 0, @all), 'all want one name');
		my $won = grep { grep { /you are now winner$race$/ } $_->lines } @all;
		is($won, 1, '... one has it');
	}
	$all[0]->say('/nick WINNER' . RACES);
	ok($all[0]->sees(qr/somebody else is WINNER/) || (grep { /you are now winner${\RACES}$/ } $all[0]->lines), 'nor can another in capitals');
	$_->close for @all;
	return;
}

# ---- limits

sub test_rate {
	my ($alice, $bob) = (client('alice'), client('bob'));
	my $count = BURST + 2 * RATE;
	my $began = time;
	$alice->send(join '', map { "flood $_\n" } 1 .. $count);
	ok($bob->sees(qr/flood @{[BURST - 5]}$/), 'who says much at once is heard');
	ok($bob->sees(qr/flood $count$/, 30), '... all of it');
	cmp_ok(time - $began, '>', 1.5, '... but not faster than ' . RATE . ' lines a second');
	$_->close for $alice, $bob;
	return;
}

sub test_full {
	my $files = `sh -c 'ulimit -n'`;
	SKIP: {
		skip "only $files descriptors are to be had", 4 if $files =~ /^\d+$/ && $files < MEMBERS + 200;
		my @all;
		my $refused = '';
		my $end = time + 60 * patience();
		while (@all < MEMBERS + 20 && time < $end) {
			my $one = Chat->new($tallyd, 1, door => 1);
			$one->sees(qr/^\*\*\* (?:you are|the room is full)/) or last;
			if ($one->found =~ /full/) { $refused = $one->ends; last }
			push @all, $one;
			$_->take for @all;
		}
		is(scalar @all, MEMBERS, MEMBERS . ' are let in');
		ok($refused, 'one more is refused with a word');
		is(metric('tallyd_chat_members'), MEMBERS, 'they are counted');
		# One that is in the room already is in the way of nobody else.
		(pop @all)->close;
		my $in = wait_until { my $one = Chat->new($tallyd, 1, door => 1); $one->sees(qr/^\*\*\* (?:you are|the room)/) && $one->found =~ /you are/ && $one } 20;
		ok($in, 'when one leaves another comes in');
		$in->say('/list') if $in;
		ok($in && $in->sees(qr/^\*\*\* here are:(?: \S+){512}$/), 'a full room can be listed');
		$_->close for @all, $in || ();
		ok((wait_until { metric('tallyd_chat_members') == 0 } 20), 'and they go');
	}
	return;
}

sub test_slow {
	my $witness = client('witness');
	my $slow = client('slow', 2);
	my @talkers = map { client("talker$_", 2) } 1 .. TALKERS;
	my ($said, $text, %unsent) = (0, 'x' x 480);
	my $dropped = read_all(sub {
		if ($said < 12 * KEPT) {
			for my $talker (@talkers) {
				# It is read from more slowly after a while: what it cannot send waits.
				$unsent{$talker} = $said++ . " $text\n" unless length($unsent{$talker} // '');
				my $done = syswrite $talker->socket, $unsent{$talker};
				substr $unsent{$talker}, 0, $done, '' if $done;
			}
		}
		$witness->find(qr/\*\*\* slow was dropped: too slow$/);
	}, 60, $witness, @talkers);
	ok($dropped, "who does not take its lines is dropped (after $said)");
	ok($slow->ends(20), '... its connection ends');
	like(($slow->lines)[-1], qr/^\*\*\* you did not take what was said: you are dropped$/, '... with a word');
	cmp_ok(metric('tallyd_chat_dropped_total'), '>=', 1, '... and it is counted');
	is(scalar(grep { /too slow/ } $witness->lines), 1, 'nobody else is');
	is(scalar(grep { $_->ended } @talkers), 0, '... of those who speak, either');
	my $fresh = client('fresh');
	$fresh->say('the end');
	ok(read_all(sub { $witness->find(qr/<fresh> the end$/) }, 0, $fresh, $witness, @talkers), 'the others go on');
	my %last;
	my $missed = 0;
	for ($witness->heard) {
		next unless /^<(talker\d+)> (\d+) x/;
		$missed++ if defined $last{$1} && $2 <= $last{$1};
		$last{$1} = $2;
	}
	is($missed, 0, '... and have missed nothing');
	$_->close for $fresh, $witness, @talkers;
	return;
}

# A client that takes nothing at all, and the room is too quiet to need its place.
sub test_deaf {
	begin(write_timeout => 0.5, workers => 1);
	my $witness = client('witness');
	my $deaf = client('deaf', 2);
	my @talkers = map { client("talker$_") } 1 .. TALKERS;
	my $text = 'x' x 500;
	my $left = 25 * @talkers;
	my $dropped = read_all(sub {
		if ($left > 0) { $_->say($text) for @talkers; $left -= @talkers }
		$witness->find(qr/\*\*\* deaf was dropped: too slow$/);
	}, 30, $witness, @talkers);
	ok($dropped, 'who takes nothing for write_timeout is dropped');
	stops();
	return;
}

sub ticks { my ($pid) = @_; my @field = split ' ', slurp("/proc/$pid/stat") =~ s/.*\) //sr; return $field[11] + $field[12] }

sub test_idle {
	begin(idle_timeout => 0.2);
	my @all = crowd(CROWD);
	my @workers = map { $_->{pid} } $tallyd->children('worker');
	sleep 0.5;
	my ($before, $began) = (0, time);
	$before += ticks($_) for @workers;
	sleep 1;
	my $used = -$before;
	$used += ticks($_) for @workers;
	cmp_ok($used / 100 / (time - $began), '<=', IDLE * WORKERS, 'idle clients cost no time');
	is(scalar(grep { $_->take; $_->ended } @all), 0, 'idle_timeout is not for them');
	my @took;
	for my $number (1 .. 20) {
		my $sent = time;
		$all[0]->say("ping $number");
		$all[-1]->sees(qr/ping $number$/) or last;
		push @took, time - $sent;
	}
	is(scalar @took, 20, 'and they can speak');
	my $median = (sort { $a <=> $b } @took)[@took / 2];
	cmp_ok($median, '<', QUICK * patience(), sprintf 'what is said comes at once (%.1f ms)', 1000 * $median);
	$_->close for @all;
	stops();
	return;
}

# A crowd at the door, more than it lets in, waits without keeping the workers busy.
sub test_door {
	my $files = `sh -c 'ulimit -n'`;
	SKIP: {
		skip "only $files descriptors are to be had", 2 if $files =~ /^\d+$/ && $files < WAITING + 200;
		begin(max_connections => 2 * WAITING);
		my @all = map { $tallyd->raw_socket(1) } 1 .. WAITING;
		ok((wait_until { metric('tallyd_chat_members') == MEMBERS } 20), 'a crowd fills the room');
		my @workers = map { $_->{pid} } $tallyd->children('worker');
		my ($used, $began) = (0, time);
		$used -= ticks($_) for @workers;
		sleep 1;
		$used += ticks($_) for @workers;
		cmp_ok($used / 100 / (time - $began), '<=', IDLE * WORKERS, '... and who waits to come in costs no time');
		close $_ for @all;
		stops();
	}
	return;
}

# ---- the past

sub greeting { my ($client) = @_; return grep { /past/ } $client->heard }

sub say_slowly {
	my ($client, $witness, @lines) = @_;
	while (my @some = splice @lines, 0, 5) {
		$client->send(join '', map { "$_\n" } @some);
		$witness->sees(qr/\Q$some[-1]\E$/) or die 'not heard';
	}
	return;
}

sub test_history {
	my $dir = File::Temp::tempdir(CLEANUP => 1);
	my $file = "$dir/history";
	begin(chat_history => $file);
	my ($alice, $bob) = (client('alice'), client('bob'));
	say_slowly($alice, $bob, map { "past $_" } 1 .. 40);
	say_slowly($bob, $alice, map { "past $_" } 41 .. 70);
	my $new = client();
	$bob->say('now');
	ok($new->sees(qr/<bob> now$/), 'somebody enters');
	my @last = map { ($_ <= 40 ? '<alice>' : '<bob>') . " past $_" } 70 - GREETING + 1 .. 70;
	is_deeply([greeting($new)], \@last, '... and gets the last ' . GREETING . ' lines');
	is(scalar(grep { /past/ && !/^\[\d\d:\d\d:\d\d\] / } $new->lines), 0, '... as they were said');
	$alice->say('/me is past');
	ok($bob->sees(qr/\* alice is past$/), 'something is done');
	ok((wait_until { slurp($file) =~ /is past$/m }), '... and in the file');
	my @kept = split /\n/, slurp($file);
	is(scalar @kept, 72, 'the file has all of it');
	is(scalar(grep { !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (?:<\w+> past \d+|<bob> now|\* alice is past)$/ } @kept), 0, '... a line each');
	rename $file, "$file.1" or die "$file: $!";
	kill USR1 => $tallyd->pid;
	ok((wait_until { -e $file }), 'it is opened anew');
	$alice->say('in the new one');
	ok((wait_until { slurp($file) =~ /<alice> in the new one$/m }), '... and written to');
	unlink $file;
	rename "$file.1", $file or die "$file: $!";
	stops();

	# What is no line of ours, and lines of two workers out of their order.
	open my $out, '>>', $file or die "$file: $!";
	print {$out} "rubbish\n", "2026-01-01T00:00:00Z <bad nick> x\n", "2026-01-01T00:00:00Z <evil> \e[2J past\n",
		"2030-01-01T00:00:00.000002Z <b> past second\n", "2030-01-01T00:00:00.000001Z <a> past first\n",
		"2030-01-01T00:00:00.000003Z <long> " . 'x' x 600 . "\n", 'no end';
	close $out;
	$tallyd->start_again;
	my $reader = client('reader');
	$reader->say('/me is here');
	$reader->say('/list');
	$reader->sees(qr/here are/);
	my $other = client();
	$other->sees(qr/\* reader is here$/);
	my @greeting = map { s/^\[[^\]]*\] //r } grep { /past|is here/ } $other->lines;
	is_deeply([@greeting[-5 .. -1]], ['* alice is past', '<evil> ?[2J past', '<a> past first', '<b> past second', '* reader is here'], 'a start knows the end of the file, in order and clean');
	like((grep { /<a> past first/ } $other->lines)[0], qr/^\[2030-01-01 00:00:00\] /, 'what is of another day has its date');
	is(scalar(grep { /past \d+$/ } @greeting), GREETING - 6, '... and no more than ' . GREETING . ' lines');
	stops();

	# What was said behind the line without an end is a line of its own; and a large file is read from
	# the beginning of a line on, though its middle may look like one.
	my @end = split /\n/, slurp($file);
	like($end[-1], qr/^\d{4}-\S+Z \* reader is here$/, 'a line is written behind one that has no end');
	my $forged = "2030-01-01T00:00:00.000009Z <root> forged past\n";
	open $out, '>>', $file or die "$file: $!";
	print {$out} "2030-01-01T00:00:00.000009Z <mallory> $forged", 'x' x (READ - 1 - length $forged), "\n";
	close $out;
	$tallyd->start_again;
	$reader = client();
	$reader->say('/list');
	$reader->sees(qr/here are/);
	is(scalar(grep { /forged/ } $reader->lines), 0, '... nothing is made of half a line');
	stops();
	return;
}

sub test_history_fails {
	begin(chat_history => '/dev/full');
	my ($alice, $bob) = (client('alice'), client('bob'));
	for (1 .. 5) { $alice->say("unkept $_"); ok($bob->sees(qr/unkept $_$/), 'a full disk keeps nobody from talking') }
	ok($tallyd->wait_log(qr{chat history /dev/full: No space left on device; what is said is not kept}), '... the log says so');
	is(scalar(() = $tallyd->log_text =~ /chat history/g), 1, '... once');
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(chat_history => '/nowhere/at/all');
	$tallyd->hup;
	ok($tallyd->wait_log(qr{chat history /nowhere/at/all: No such file or directory; create its directory}, 10, $mark), 'where it cannot be opened');
	ok($tallyd->wait_log(qr/reload failed/, 10, $mark), '... a reload fails');
	$alice->say('still here');
	ok($bob->sees(qr/still here$/), '... and nobody notices');
	stops();
	return;
}

# ---- balances

sub test_watch {
	my (@config) = @_;
	begin(@config);
	my ($watcher, $all) = (client('watcher'), client('all'));
	$watcher->say('/watch cust');
	ok($watcher->sees(qr/^\*\*\* you watch accounts that begin with cust;/), '/watch');
	$all->say('/watch');
	ok($all->sees(qr/^\*\*\* you watch all accounts;/), '... everything');
	my @connections = map { $tallyd->connection } 1 .. 4;
	my $balance = 0;
	for my $i (1 .. CHANGES) {
		$tallyd->event('cust-1', $i, connection => $connections[$i % 4]);
		$tallyd->event('other', 1, connection => $connections[($i + 1) % 4]);
		$balance += $i;
	}
	ok($watcher->sees(qr/^\[[\d:]+\] = cust-1 $balance \(\+${\CHANGES}\)$/), 'the last change is seen');
	my $expected = 0;
	my @expected = map { $expected += $_; "= cust-1 $expected (+$_)" } 1 .. CHANGES;
	is_deeply([map { /(= .*)/ ? $1 : () } $watcher->lines], \@expected, '... after all others, in order, and none of other accounts');
	ok($all->sees(qr/= other ${\CHANGES} \(\+1\)$/), 'who watches all sees others');
	$tallyd->call('POST', '/transfers', { from => 'cust-1', to => 'cust-2', amount => 7 });
	ok($watcher->sees(qr/= cust-1 @{[$balance - 7]} \(-7\)$/), 'a transfer is two changes');
	ok($watcher->sees(qr/= cust-2 7 \(\+7\)$/), '... both are seen');
	my $held = $tallyd->call('POST', '/holds', { account => 'cust-2', amount => 3, ttl => 100 });
	is($held->{status}, 201, 'a hold') or diag($held->{body});
	ok($watcher->sees(qr/= cust-2 7 \(\+0\) held 3$/), 'what is held is seen');
	$watcher->say('/unwatch');
	ok($watcher->sees(qr/^\*\*\* you watch nothing$/), '/unwatch');
	$tallyd->event('cust-1', 1);
	ok($all->sees(qr/= cust-1 /), 'another sees it');
	$watcher->say('/list');
	$watcher->sees(qr/here are/);
	is(scalar(grep { /= cust-1 @{[$balance - 6]} / } $watcher->lines), 0, '... who watches nothing does not');
	$watcher->say('/watch ' . 'x' x 101);
	ok($watcher->sees(qr/no account has so long a name/), 'a prefix that is too long is refused');
	# An account's name may try to speak as the room does.
	$tallyd->call('POST', '/events', { account => "x\x{202e}y", amount => 1 });
	ok($all->sees(qr/= x\?y 1 /), 'names are clean, too');
	stops();
	return;
}

# ---- tokens

# A client at the door that says WORDS; what it reads then matches PATTERN.
sub at_door {
	my ($words, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $one = Chat->new($tallyd, 1, door => 1);
	ok($one->sees(qr{^\*\*\* say who you are: /auth TOKEN$}), 'who comes is asked who he is');
	$one->send($words);
	ok($one->sees($pattern), $what);
	return $one;
}

sub test_tokens {
	my $dir = File::Temp::tempdir(CLEANUP => 1);
	my $soon = time + 6 * patience();
	my %lines = (
		all    => 'read,write',
		writer => 'write',
		shop   => 'read prefix=shop/',
		odd    => "read prefix=a\xe2\x80\xaebcd",
		late   => 'read expires=2020-01-01T00:00:00Z',
		soon   => 'read expires=' . strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $soon),
	);
	open my $out, '>', "$dir/tokens" or die "tokens: $!";
	print {$out} join ' ', $_, sha256_hex("secret-$_"), "$lines{$_}\n" for sort keys %lines;
	close $out;
	chmod 0600, "$dir/tokens";
	begin(auth_file => "$dir/tokens", header_timeout => 0.5);
	my $in = qr/^\*\*\* you are guest\d+, one of/;
	my $no = qr/^\*\*\* that is no token that is good here; good-bye$/;
	my $brief = at_door("/auth secret-soon\n", $in, '... and let in with a token that runs out soon');
	my $all = at_door("/auth secret-all\n", $in, '... and let in with a token');
	my $shop = at_door("/auth secret-shop\r\n/nick shop\n", $in, '... with CR LF');
	ok($shop->sees(qr/you are now shop$/), '... and what comes behind it is read');
	my $writer = at_door("/auth secret-writer\n", $in, '... with any that is good');
	for (["/auth secret-none\n", 'with one that is none'], ["/auth secret-late\n", 'with one that is over'], ["secret-all\n", 'without the word'],
		["/auth\n", 'with nothing'], ["/list\n", 'with another command'], ['x' x 600, 'with a line without an end']) {
		my $one = at_door($_->[0], $no, "... not $_->[1]");
		ok($one->ends, '... but put out');
	}
	my $mute = Chat->new($tallyd, 1, door => 1);
	ok($mute->sees(qr/^\*\*\* you did not say who you are; good-bye$/) && $mute->ends, 'who says nothing is put out');
	$all->say('/auth secret-all');
	ok($all->sees(qr/^\*\*\* nobody is asked/), 'who is in need not say it again');
	$writer->say('/watch');
	ok($writer->sees(qr/^\*\*\* your token does not permit that$/), 'who may not read does not watch');
	$shop->say('/watch other');
	ok($shop->sees(qr/^\*\*\* your token does not permit that$/), 'nor what his prefix does not cover');
	$shop->say('/watch');
	ok($shop->sees(qr{^\*\*\* you watch accounts that begin with shop/;}), '... of all he watches what it does');
	$all->say('/watch');
	$all->sees(qr/you watch all/);
	my $bearer = { Authorization => 'Bearer secret-all' };
	$tallyd->call('POST', '/events', { account => $_, amount => 1 }, $bearer) for qw(other/a shop/a other/b shop/b);
	ok($all->sees(qr{= shop/b 1 }), 'accounts change');
	ok($shop->sees(qr{= shop/b 1 }), '... and are seen');
	is(scalar(grep { /= other/ } $shop->lines), 0, '... no others');
	# What such a prefix looks like on a terminal covers nothing.
	my $odd = at_door("/auth secret-odd\n", $in, 'a token with a prefix that cannot be shown');
	$odd->say('/watch');
	ok($odd->sees(qr{^\*\*\* you watch accounts that begin with a\?bcd;}), '... watches what it covers');
	$tallyd->call('POST', '/events', { account => $_, amount => 1 }, $bearer) for 'a?bcdcd', "a\x{202e}bcd";
	ok($odd->sees(qr{= a\?bcd 1 }), '... sees it');
	is(scalar(grep { /= a\?bcdcd/ } $odd->lines), 0, '... nothing else');
	ok(read_all(sub { $all->say('tick') if time > $soon && !$brief->{ended}; sleep 0.05; $brief->find(qr/^\*\*\* your token is over; good-bye$/) }, 30, $brief, $all), 'a token that runs out ends its connection');
	is($all->find(qr/secret/), 0, 'no token is ever said');
	stops();
	return;
}

begin();
test_words;
test_cleaning;
test_bounds;
test_order;
test_names;
test_rate;
test_full;
test_slow;
stops();
test_deaf;
test_idle;
test_door;
test_history;
test_history_fails;
test_watch;
test_tokens;
test_watch(sync => 'interval', sync_interval => 50);
done_testing;
