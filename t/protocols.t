#!/usr/bin/perl
# Every protocol, all at once under load, through what every one of them must survive: the death of each
# worker, reloads one behind the other, no descriptor left, and a drain.  Each client asks, waits for the
# answer to that and nothing else, and asks again; nothing may be answered wrongly or twice, what was
# answered stays, and a connection that is to end ends between two questions.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use FindBin;
use IO::Poll qw(POLLIN);
use IO::Socket::IP;
use lib "$FindBin::RealBin/lib";
use Socket qw(MSG_NOSIGNAL);
use Tallyd qw(patience wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	CLIENTS => 6,     # of each protocol
	ROUNDS  => 3,     # times that each worker dies
	RELOADS => 4,
	SOME    => 20,    # answers of each protocol after which it is said to go on
};

# A protocol: what its listener is told; the question NUMBER of client NAME; and what must come back,
# matched against the bytes so far, whose first group, if there is one, is the balance then.
my @protocols = (
	{ name => 'http', keys => {}, banks => 1,
		ask => sub { my ($name) = @_; my $body = qq({"account":"$name","amount":1}); return "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($body) . "\r\n\r\n$body" },
		answer => sub { my ($name) = @_; return qr/\AHTTP\/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)*\r\n\{"status":"accepted","account":"$name","balance":(\d+),[^}]*\}\z/ } },
	{ name => 'redis', keys => { protocol => 'redis' }, banks => 1,
		ask => sub { my ($name) = @_; return "*2\r\n\$4\r\nINCR\r\n\$" . length($name) . "\r\n$name\r\n" },
		answer => sub { return qr/\A:(\d+)\r\n\z/ } },
	{ name => 'echo', keys => { protocol => 'echo' }, banks => 0,
		ask => sub { my ($name, $number) = @_; return "$name says $number\n" },
		answer => sub { my ($name, $number) = @_; return qr/\A\Q$name\E says $number\n\z/ } },
	# What others say comes in between.
	{ name => 'chat', keys => { protocol => 'chat' }, banks => 0, chatty => 1,
		ask => sub { my ($name, $number) = @_; return "/nick $name.$number\n" },
		answer => sub { my ($name, $number) = @_; return qr/^\*\*\* you are now \Q$name\E\.$number$/m } },
);

my $tallyd = Tallyd->start(
	listen => [['127.0.0.1:0', {}], map { ['127.0.0.1:0', $_->{keys}] } @protocols],
	config => { workers => 2, respawn_backoff => 0, ring_size => '4M', journal_segment => '8M', drain_timeout => 6 },
);

# ---- clients

my (@clients, $resting, $deadly);

# Bytes that wait to be connected are no connection yet: a worker takes it when it can.
sub connect_client {
	my ($client) = @_;
	my $socket = IO::Socket::IP->new(PeerAddr => $tallyd->address($client->{listener}), Timeout => 10) or return 0;
	$socket->blocking(0);
	@$client{qw(socket got asked)} = ($socket, '', 0);
	return 1;
}

# Asks the next question.
sub ask {
	my ($client) = @_;
	my $protocol = $client->{protocol};
	$client->{number}++;
	$client->{got} = '';
	my $text = $protocol->{ask}->($client->{name}, $client->{number});
	my $sent = send $client->{socket}, $text, MSG_NOSIGNAL;
	# Who is gone before a byte was sent was not asked.
	return 0 unless defined $sent && $sent == length $text;
	$client->{asked} = 1;
	return 1;
}

# What has become of CLIENT's question: 'waits', 'answered', 'ended' (before it was asked), 'lost' (not
# answered), or 'wrong'.
sub look {
	my ($client) = @_;
	return 'ended' unless $client->{socket};
	my $count = sysread $client->{socket}, $client->{got}, 65_536, length $client->{got};
	if (!defined $count) {
		return 'waits' if $!{EAGAIN} || $!{EINTR};
		$count = 0;
	}
	if ($count == 0) {
		close $client->{socket};
		delete $client->{socket};
		return $client->{asked} ? 'lost' : 'ended';
	}
	if (!$client->{asked} && $client->{protocol}{chatty}) {
		$client->{got} = '';
		return look($client);
	}
	return 'wrong' unless $client->{asked};
	if ($client->{got} =~ $client->{protocol}{answer}->($client->{name}, $client->{number})) {
		$client->{balance} = $1 if $client->{protocol}{banks};
		$client->{answered}++;
		$client->{asked} = 0;
		# Who is told that this was the last answer asks elsewhere.
		delete $client->{socket} if $client->{protocol}{name} eq 'http' && $client->{got} =~ /^Connection: close\r$/mi;
		return 'answered';
	}
	return 'waits';
}

sub make_clients {
	for my $index (0 .. $#protocols) {
		push @clients, map { { protocol => $protocols[$index], listener => $index + 1, name => "$protocols[$index]{name}-$_", number => 0, answered => 0, lost => 0,
			balance => 0 } } 1 .. CLIENTS;
	}
	return;
}

# Goes on until DONE says so, or a deadline has passed: true if it has not.  Counts what became of the
# questions in %TALLY.
sub converse {
	my ($done, $tally, $deadline) = @_;
	my $end = time + ($deadline || 30) * patience();
	while (!$done->()) {
		return 0 if time > $end;
		my $bits = '';
		for my $client (@clients) {
			if (!$client->{socket} && !$client->{finished} && !$resting) { connect_client($client) or next }
			next unless $client->{socket};
			# Who wants to ask looks first whether anybody still listens.
			if (!$client->{asked} && !$client->{finished} && !$resting && look($client) eq 'waits') { ask($client) }
			next unless $client->{socket};
			vec($bits, fileno $client->{socket}, 1) = 1;
		}
		select $bits, undef, undef, 0.02;
		for my $client (grep { $_->{socket} && vec $bits, fileno $_->{socket}, 1 } @clients) {
			my $what = look($client);
			$tally->{$what}++;
			$tally->{"$what $client->{protocol}{name}"}++;
			if ($what eq 'wrong') { diag("$client->{name}: '$client->{got}'"); return 0 }
			# An increment that was not answered because somebody died may have been done, or not.
			$client->{lost}++ if $what eq 'lost' && $deadly;
			$client->{asked} = 0 if $what eq 'lost';
		}
	}
	return 1;
}

# A condition: every client of every protocol has had MORE answers.
sub answers {
	my ($more) = @_;
	my %goal = map { $_->{name} => $_->{answered} + $more } @clients;
	return sub { return !grep { $_->{answered} < $goal{ $_->{name} } } @clients };
}

# Nobody asks any more, and all are answered.
sub rest {
	my ($tally) = @_;
	$resting = 1;
	return converse(sub { return !grep { $_->{asked} } @clients }, $tally);
}

# The balances: nothing that was answered is missing, and nothing is there twice.
sub check_balances {
	my ($when) = @_;
	my @wrong;
	rest({}) if $tallyd->pid && grep { $_->{socket} } @clients;
	$resting = 0;
	for my $client (grep { $_->{protocol}{banks} } @clients) {
		my $balance = $tallyd->balance($client->{name}) // 0;
		push @wrong, "$client->{name}: $balance, answered $client->{answered}, lost $client->{lost}"
			if $balance < $client->{answered} || $balance > $client->{answered} + $client->{lost} || $client->{balance} > $balance;
	}
	is("@wrong", '', "$when: every answer counts once");
	return;
}

sub workers { return map { $_->{pid} } $tallyd->children('worker') }

make_clients();
my %tally;
ok(converse(answers(SOME), \%tally), 'every protocol is spoken');
is($tally{lost} || 0, 0, 'and nothing is lost');

# ---- deaths

sub test_deaths {
	$deadly = 1;
	for my $round (1 .. ROUNDS) {
		for my $worker (workers()) {
			kill KILL => $worker;
			my $gone = sub { return !grep { $_ == $worker } workers() };
			my $on = answers(SOME);
			my %now;
			ok(converse(sub { return $gone->() && $on->() }, \%now), "a worker dies ($round): all go on, " . ($now{lost} || 0) . ' questions were lost')
				or diag(explain(\%now));
		}
	}
	check_balances('after deaths');
	$deadly = 0;
	return;
}

# ---- reloads

sub test_reloads {
	check_balances('before them');
	$_->{answered} = $tallyd->balance($_->{name}), $_->{lost} = 0 for grep { $_->{protocol}{banks} } @clients;
	for my $round (1 .. RELOADS) {
		my $mark = $tallyd->log_mark;
		my %old = map { $_ => 1 } workers();
		my %now;
		$tallyd->hup;
		my $reloaded = sub { return substr($tallyd->log_text, $mark) =~ /reloaded: / };
		ok(converse($reloaded, \%now), "reload $round");
		ok(converse(answers(SOME), \%now), '... all go on');
		# Everybody pauses for a moment, as clients do; what has no word for the end ends then.
		ok(rest(\%now), '... and pause');
		ok(converse(sub { return !grep { $old{$_} } workers() }, \%now), '... when the old workers have gone');
		$resting = 0;
		ok(converse(answers(SOME), \%now), '... they go on with the new ones');
		# A protocol without a word for the end may end just when a client speaks again after a while: then
		# nothing is done, which the balances show.
		is($now{'lost http'} || 0, 0, '... no question of HTTP was lost');
		cmp_ok($now{lost} || 0, '<=', @clients / 6, '... and hardly one of others') or diag(explain(\%now));
	}
	check_balances('after reloads');
	return;
}

# Who asks one question behind the other is left in peace by the worker that is to go, until he pauses.
sub test_hurry {
	my @hasty = map { { protocol => $protocols[$_], listener => $_ + 1, name => "hasty-$protocols[$_]{name}", number => 0, answered => 0, lost => 0 } } grep { $protocols[$_]{name} ne 'http' } 0 .. $#protocols;
	my $once = sub {
		my ($client) = @_;
		ask($client) or return 0;
		return wait_until(sub { my $what = look($client); return $what eq 'waits' ? '' : $what }, 20) eq 'answered';
	};
	for my $client (@hasty) { connect_client($client) or die "cannot connect: $!"; $once->($client) }
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: /, 20, $mark), 'a reload');
	for my $client (@hasty) {
		my $answered = 0;
		for (1 .. 25) { $once->($client) ? $answered++ : last }
		is($answered, 25, "$client->{name}: one question behind the other is answered by who is to go");
	}
	for my $client (@hasty) { ok(wait_until(sub { look($client) eq 'ended' }, 20), "$client->{name}: ... who then goes") }
	return;
}

# ---- descriptors

sub test_descriptors {
	my ($prlimit) = grep { -x } map { "$_/prlimit" } split /:/, $ENV{PATH};
	SKIP: {
		skip 'no prlimit(1)', 5 unless $prlimit;
		my %limit;
		for my $worker (workers()) {
			my %used = map { m{/(\d+)$} ? ($1 => 1) : () } glob "/proc/$worker/fd/*";
			my ($lowest) = grep { !$used{$_} } 0 .. 10_000;
			$limit{$worker} = (Tallyd::slurp("/proc/$worker/limits") =~ /^Max open files\s+(\d+)/m)[0];
			system($prlimit, '--pid', $worker, "--nofile=$lowest:$limit{$worker}") == 0 or die 'prlimit';
		}
		my @late;
		for my $index (0 .. $#protocols) {
			for (1 .. 8) {
				my $client = { protocol => $protocols[$index], listener => $index + 1, name => "late-$protocols[$index]{name}-$_", number => 0, answered => 0, lost => 0, balance => 0 };
				connect_client($client) or die "cannot connect: $!";
				ask($client);
				push @late, $client;
			}
		}
		my %now;
		ok(converse(answers(SOME), \%now), 'without a descriptor left, who is there goes on');
		is($now{lost} || 0, 0, '... and loses nothing');
		ok($tallyd->wait_log(qr/refused: not accepting connections .*Too many open files/), '... the log says so');
		system($prlimit, '--pid', $_, "--nofile=$limit{$_}:$limit{$_}") for keys %limit;
		push @clients, @late;
		ok(converse(answers(1), \%now), 'with descriptors again, those who waited are served, of every protocol');
		is($now{lost} || 0, 0, '... nobody was turned away');
	}
	check_balances('after that');
	return;
}

# ---- a drain

sub test_drain {
	my %now;
	converse(answers(1), \%now);
	$tallyd->term;
	# Who has asked is answered, and asks no more; then the connection ends, and nobody listens any more.
	$_->{finished} = 1 for @clients;
	ok(converse(sub { return !grep { $_->{socket} } @clients }, \%now), 'a drain ends every connection');
	is($now{lost} || 0, 0, '... behind an answer to what was asked before it') or diag(explain(\%now));
	is($tallyd->wait_exit, 0, '... and the daemon');
	$tallyd->start_again;
	check_balances('after a restart');
	return;
}

test_deaths();
test_hurry();
test_reloads();
test_descriptors();
test_drain();
is($tallyd->stop, 0, 'stops');
done_testing();
