#!/usr/bin/perl
# Retries that race: processes that send the same ids to all workers at the same moment, every kind
# of operation and of refusal.  All get the same bytes, each is applied once; also while everything is
# killed again and again, where the ring has no room, and where the table of ids is too small.
#
# TALLYD_RETRY_ROUNDS (default 20: times every kind of operation), TALLYD_RETRY_KILLS (default 6)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use JSON::PP ();
use POSIX ();
use Tallyd qw(patience read_response send_all slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	RACERS        => 8,
	GIVES_UP      => 60,   # seconds without all answers
	PAUSE         => 0.01, # seconds before the next try
	BETWEEN_KILLS => 0.15, # seconds, at most
	DISPUTED      => 60,   # ids that are sent with different parameters
	CROWD         => 800,  # operations that do not all fit into the ring
	OLD           => 300,  # ids, many more than fit into a small table
	NEW           => 40,   # and later ones, which fit
	AGE           => 2.5,  # seconds between: the table tells ages to about a second
	WHOLE_WINDOW  => 86_400,
	TOLD          => 5,    # differences that are printed
};

my $rounds = $ENV{TALLYD_RETRY_ROUNDS} || 20;
my $kills = $ENV{TALLYD_RETRY_KILLS} || 6;
my $window = 40; # requests that a racer has under way
my $encoder = JSON::PP->new->canonical;
my $tallyd;

sub lines { my ($what, @wrong) = @_; is(scalar @wrong, 0, $what); diag $_ for splice @wrong, 0, TOLD; return }

# ---- racers

# A request: [text, the status it must have].
sub request {
	my ($status, $method, $path, $body, @headers) = @_;
	my $text = ref $body ? $encoder->encode($body) : $body;
	return [join("\r\n", "$method $path HTTP/1.1", 'Host: retry', 'Content-Type: application/json',
		'Content-Length: ' . length $text, @headers, '', $text), $status];
}

# Some answers to REQUESTS, of what is asked on one connection, "status first|true body" each; fewer
# if it breaks.
sub ask_some {
	my (@requests) = @_;
	my @answers;
	eval {
		my $connection = $tallyd->connection;
		while (my @some = splice @requests, 0, $window) {
			send_all($connection, join '', map { $_->[0] } @some);
			for (@some) {
				my $answer = read_response($connection) or die 'closed';
				my $replayed = $answer->{headers}{'idempotent-replayed'} || 'first';
				push @answers, "$answer->{status} $replayed $answer->{body}";
			}
		}
		close $connection;
	};
	return @answers;
}

# All answers; what breaks is asked again.
sub ask_all {
	my (@requests) = @_;
	my @answers;
	my $end = time + GIVES_UP * patience();
	until (@answers == @requests) {
		die 'no answers' if time > $end;
		push @answers, ask_some(@requests[@answers .. $#requests]);
		sleep PAUSE if @answers < @requests;
	}
	return @answers;
}

# Lets each of LISTS of requests be asked by a process of its own, all beginning at the same moment,
# and MEANWHILE run.  The lists of answers.
sub race {
	my ($meanwhile, @lists) = @_;
	pipe my $ready, my $am_ready or die $!;
	pipe my $go, my $say_go or die $!;
	my @pids;
	for my $number (0 .. $#lists) {
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			close $say_go;
			syswrite $am_ready, '.';
			sysread $go, my $byte, 1; # the end of the file
			my $ok = eval {
				open my $file, '>', $tallyd->dir . "/racer$number" or die $!;
				print {$file} "$_\n" for ask_all(@{ $lists[$number] });
				close $file or die $!;
			};
			print STDERR "# racer $number: $@" unless $ok;
			POSIX::_exit($ok ? 0 : 1);
		}
		push @pids, $pid;
	}
	for (@pids) { sysread $ready, my $byte, 1 }
	close $say_go;
	$meanwhile->(@pids) if $meanwhile;
	die 'a racer failed' if grep { waitpid($_, 0) != $_ || $? } @pids;
	return map { [split /\n/, slurp($tallyd->dir . "/racer$_")] } 0 .. $#lists;
}

# Kills everything and starts it again, a few times, for as long as racers run.
sub kill_everything {
	my (@pids) = @_;
	for (1 .. $kills) {
		sleep rand BETWEEN_KILLS;
		$tallyd->kill9;
		$tallyd->start_again;
	}
	return;
}

# What is wrong with ANSWERS of several racers to the same REQUESTS: they differ, or are not what
# they must be, or not exactly one was the first (ANY: the first answer may have been lost).
sub unequal {
	my ($requests, $any, @answers) = @_;
	my @wrong;
	for my $i (0 .. $#$requests) {
		my ($text, $status) = @{ $requests->[$i] };
		my @all = map { $_->[$i] } @answers;
		my $firsts = grep { /^\d+ first/ } @all;
		my %different = map { s/^(\d+) \w+/$1/r => 1 } @all;
		next if keys %different == 1 && $all[0] =~ /^$status / && ($any ? $firsts <= 1 : $firsts == 1);
		push @wrong, "$firsts first answers, $status is right: " . join("\n", $text, sort keys %different);
	}
	return @wrong;
}

# ---- every kind of operation and of refusal

sub operations {
	my ($round) = @_;
	my ($name, $gone) = ("a$round", "gone$round");
	my $event = { account => $name };
	my @all = (
		[201, 'POST', '/accounts', { account => $name, floor => 0 }],
		[200, 'POST', '/events', { %$event, amount => 100 }],
		[200, 'POST', '/transfers', { from => $name, to => 'pot', amount => 10 }],
		[200, 'POST', '/transactions', { balanced => JSON::PP::true,
			legs => [{ account => $name, amount => -5 }, { account => 'pot', amount => 5 }] }],
		[201, 'POST', '/holds', { %$event, amount => 20, ttl => 3600 }],
		[200, 'POST', "/holds/r$round-5/capture", { amount => 15, to => 'pot' }],
		[201, 'POST', '/holds', { %$event, amount => 20, ttl => 3600 }],
		[200, 'POST', "/holds/r$round-7/release", {}],
		[201, 'POST', '/holds', { %$event, amount => 7, ttl => 3600 }], # stays
		[402, 'POST', '/events', { %$event, amount => -64 }],
		[402, 'POST', '/transfers', { from => $name, to => 'pot', amount => 64 }],
		[402, 'POST', '/holds', { %$event, amount => 64, ttl => 3600 }],
		[404, 'POST', '/holds/unheld/capture', { amount => 1 }],
		[404, 'DELETE', "/accounts/$gone", {}],
		[409, 'POST', '/accounts', { account => $name }],
		[409, 'DELETE', "/accounts/$name", {}],
		[409, 'POST', "/holds/r$round-7/capture", {}],
		[412, 'POST', '/events', { %$event, amount => 1 }, 'If-Match: "99"'],
		[200, 'PUT', "/accounts/$name", { floor => 0, ceiling => 100 }],
		[422, 'POST', '/events', { %$event, amount => 31 }],
		[422, 'POST', '/transactions', { balanced => JSON::PP::true, legs => [{ account => $name, amount => 1 }] }],
		[200, 'PUT', "/accounts/$name", { floor => 0, frozen => 'all' }],
		[423, 'POST', '/events', { %$event, amount => 1 }],
		[423, 'POST', "/holds/r$round-9/capture", {}],
		[200, 'PUT', "/accounts/$name", { floor => 0 }],
		[201, 'POST', '/accounts', { account => $gone }],
		[200, 'DELETE', "/accounts/$gone", {}],
	);
	my $number = 0;
	$_->[3]{id} = "r$round-" . ++$number for @all;
	return map { request(@$_) } @all;
}

sub balances {
	return join ' ', map { my $balance = $tallyd->balance($_); defined $balance ? $balance : '-' } @_;
}

# Each round, once: 100 - 10 - 5 - 15 stay, 7 of it held, and 30 go into the pot.
sub applied_once {
	my ($what, $from, $to) = @_;
	my @names = map { "a$_" } $from .. $to;
	is(balances(@names), join(' ', (70) x @names), "$what: applied once");
	is(join(' ', map { $tallyd->call('GET', "/accounts/$_")->{json}{held} } @names), join(' ', (7) x @names),
		'... as far as it is held, too');
	is($tallyd->balance('pot'), 30 * $to, '... and given');
	return;
}

$tallyd = Tallyd->start(config => { workers => 4, snapshot_every => '64K', journal_segment => '256K' });
my @requests = map { operations($_) } 1 .. $rounds;
my @answers = race(undef, (\@requests) x RACERS);
lines(RACERS . ' racers: the same answer to all, of whom one was first', unequal(\@requests, 0, @answers));
applied_once('every operation', 1, $rounds);

my @more = map { operations($_) } $rounds + 1 .. 2 * $rounds;
my @later = race(\&kill_everything, (\@more) x RACERS);
lines("everything is killed $kills times meanwhile: the same answer to all", unequal(\@more, 1, @later));
applied_once('every operation', $rounds + 1, 2 * $rounds);
push @requests, @more;
my @told = map { s/^(\d+) \w+/$1 true/r } @{ $answers[0] }, @{ $later[0] };
$tallyd->kill9;
$tallyd->start_again;
is_deeply([ask_all(@requests)], \@told, 'killed once more, all is answered as before, byte for byte');
applied_once('every operation', 1, 2 * $rounds);

# ---- the same id with something else in it

# Of each variant, by racers as many.
my @variants = ([], [], [], []);
for my $number (1 .. DISPUTED) {
	my $id = "disputed$number";
	my $name = "d$number";
	push @{ $variants[0] }, request(200, 'POST', '/events', { account => $name, amount => 1, id => $id });
	push @{ $variants[1] }, request(200, 'POST', '/events', { account => $name, amount => 2, id => $id });
	push @{ $variants[2] }, request(200, 'POST', '/transfers', { from => 'bank', to => $name, amount => 3, id => $id });
	push @{ $variants[3] }, request(404, 'POST', '/holds', { account => $name, amount => 4, ttl => 3600, id => $id });
}

# Exactly one variant was decided, the others are 422 id_reused, and the balance is what it made.
# (A hold comes before there is the account, or never: it changes nothing.)
sub quarrels {
	my ($answers) = @_;
	my @wrong;
	for my $i (0 .. DISPUTED - 1) {
		my @all = map { $_->[$i] } @$answers;
		my @won = grep { $all[$_] !~ /"id_reused"/ } 0 .. $#all;
		my %won = map { $_ % @variants => 1 } @won;
		my ($variant) = keys %won;
		my $balance = $tallyd->balance('d' . ($i + 1)) || 0;
		my %bytes = map { s/^(\d+) \w+/$1/r => 1 } @all[@won];
		next if keys %won == 1 && keys %bytes == 1 && $balance == ($variant + 1) % 4
			&& $all[$won[0]] =~ /^$variants[$variant][$i][1] / && !grep { /id_reused/ && !/^422 first/ } @all;
		push @wrong, join "\n", "d$i has $balance", @all;
	}
	return @wrong;
}

@answers = race(undef, (@variants) x 2);
lines('the same id with something else: one is decided, the others are 422 id_reused', quarrels(\@answers));
$tallyd->kill9;
$tallyd->start_again;
my @again = map { [ask_all(@$_)] } (@variants) x 2;
lines('... after a crash too', quarrels(\@again));
for my $list (@answers, @again) { s/^(\d+) \w+/$1/ for @$list }
is_deeply(\@again, \@answers, '... word by word');
is($tallyd->stop, 0, 'it stops');
undef $tallyd;

# ---- what is not decided

# As much as fits into the ring while the disk is slow, and more.
sub crowd {
	my $note = 'n' x 250;
	return map { request($_->[0], @$_[1, 2], { %{ $_->[3] }, note => $note }) } map { my $i = $_; (
		[200, 'POST', '/events', { account => "c$i", amount => 10, id => "event$i" }],
		[200, 'POST', '/transfers', { from => "c$i", to => 'crowd', amount => 4, id => "transfer$i" }],
		[201, 'POST', '/holds', { account => "c$i", amount => 1, ttl => 3600, id => "hold$i" }],
		[200, 'PUT', "/accounts/c$i", { id => "put$i" }],
	) } 1 .. CROWD / 4;
}

$tallyd = Tallyd->start(config => { workers => 4, ring_size => '64K', journal_delay => 500 });
my @crowd = crowd();
$window = @crowd;
@answers = race(undef, (\@crowd) x RACERS);
my (%decided, %refused, @wrong);
for my $i (0 .. $#crowd) {
	for my $answer (map { $_->[$i] } @answers) {
		# A hold, a transfer before their account is there is decided otherwise.
		if ($answer =~ /^503 /) {
			$refused{$i}++;
			push @wrong, $answer unless $answer =~ /^503 first .*"reason":"\w+"/;
		} else {
			push @{ $decided{$i} }, $answer;
		}
	}
}
my @never = grep { !$decided{$_} } 0 .. $#crowd;
note scalar(keys %decided), ' decided, ', scalar(keys %refused), ' refused to somebody, ',
	scalar(@never), ' to all';
cmp_ok(scalar keys %decided, '>', 0, 'a full ring: some are decided');
cmp_ok(scalar @never, '>', 0, '... and some refused with 503, whoever asks');
$tallyd->set_config(journal_delay => 0);
my $mark = $tallyd->log_mark;
$tallyd->hup;
ok($tallyd->wait_log(qr/reloaded/, 20, $mark), '... then the disk is fast');
my @after = map { ask_all($_) } @crowd;
push @wrong, grep { /^503 / } @after;
for my $i (keys %decided) {
	my %all = map { s/^(\d+) \w+/$1/r => 1 } @{ $decided{$i} }, $after[$i];
	push @wrong, join "\n", 'answers differ:', sort keys %all if keys %all != 1;
	push @wrong, "decided, and not remembered: $after[$i]" unless $after[$i] =~ /^\d+ true/;
}
push @wrong, map { "not decided, and remembered: $after[$_]" } grep { $after[$_] !~ /^$crowd[$_][1] first/ } @never;
lines('a 503 is never remembered, a decision always', @wrong);
my $amount = grep { /^200 .*"from"/ } @after;
is($tallyd->balance('crowd'), 4 * $amount, '... and applied once');

my @malformed = (
	{ account => 'm', amount => 1.5 }, { account => 'm' }, { amount => 1 }, { account => 'm', amount => 1, x => 1 },
	{ account => '', amount => 1 }, { account => "m\x{7f}", amount => 1 }, { account => 'm', amount => 1, note => 'n' x 257 },
	{ account => 'm', amount => '9223372036854775808' },
);
@wrong = ();
for my $i (0 .. $#malformed) {
	my $id = "malformed$i";
	my $text = $encoder->encode({ %{ $malformed[$i] }, id => $id });
	my @said = ask_all(request(400, 'POST', '/events', $text), request(400, 'POST', '/events', substr $text, 0, -1),
		request(200, 'POST', '/events', { account => 'm', amount => 1, id => $id }));
	push @wrong, join "\n", $text, @said
		unless $said[0] =~ /^4\d\d first/ && $said[1] =~ /^400 first/ && $said[2] =~ /^200 first/;
}
lines('what is malformed is not remembered either', @wrong);
is($tallyd->balance('m'), scalar @malformed, '... and then applied once');
is($tallyd->stop, 0, 'it stops');
undef $tallyd;

# ---- a table that is too small

sub numbered { return map { request(200, 'POST', '/events', { account => "o$_", amount => 1, id => "old$_" }) } @_ }

$tallyd = Tallyd->start(config => { workers => 4, max_ids => 64, snapshot_every => '64K' });
my @old = numbered(1 .. OLD);
race(undef, \@old);
sleep AGE;
my @new = numbered(OLD + 1 .. OLD + NEW);
@answers = race(undef, (\@new) x RACERS);
lines('a small table: the newest ids are remembered by all', unequal(\@new, 0, @answers));
my $about = $tallyd->call('GET', '/')->{json};
cmp_ok($about->{ids_forgotten}, '>=', OLD + NEW - 256, '... older ones are forgotten, and counted');
cmp_ok($about->{id_window}, '<', WHOLE_WINDOW, '... and the window that is really kept is told');
ok($tallyd->wait_log(qr/younger than id_window were forgotten.*max_ids/, 15), '... and logged');
$tallyd->kill9;
$tallyd->start_again;
@told = map { s/^(\d+) \w+/$1 true/r } @{ $answers[0] };
is_deeply([ask_all(@new)], \@told, 'after a crash the newest are remembered');
is(balances(map { "o$_" } OLD + 1 .. OLD + NEW), join(' ', (1) x NEW), '... and applied once');
my $forgotten = grep { /^200 first/ } ask_all(@old);
cmp_ok($forgotten, '>=', OLD / 2, '... the oldest are not: a retry is another event');
is($tallyd->stop, 0, 'it stops');
done_testing;
