# A bank's customers: processes that do every kind of operation at random, each under an id of its
# own and tried again until it is answered, and write down what they were told.  And the auditor, who
# believes only that: what the daemon says at the end must follow from the answers.

package Bank;

use strict;
use warnings;

use Carp qw(croak);
use IO::Handle ();
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

use Tallyd qw(patience read_response send_all slurp wait_until);

use constant {
	ANSWER_DEADLINE => 60,   # seconds for one operation, its repetitions included
	PAUSE           => 0.02, # seconds before the next try
	HOLD_TTL        => 20,   # seconds: longer than a bank is open; SHORT_TTL runs out meanwhile
	SHORT_TTL       => 1,
	REPEATED        => 20,   # one operation of so many is sent again when it has been answered
	PAGE            => 100,
	TRIES           => 20,
	RECALLED        => 200,  # answers that a customer remembers, to ask again much later
	PIPELINED       => 50,   # requests that are asked again at one time
	AGAIN_TOLD      => 5,    # different answers that are reported
};

# ---- a customer

# Forks COUNT customers who work on ACCOUNTS accounts until told to stop.  PREFIX: of their ids.
# UNDECIDED: the statuses after which a customer tries again, as a pattern.
sub open {
	my ($class, $tallyd, %want) = @_;
	my $self = bless { dir => $want{dir}, prefix => $want{prefix}, accounts => $want{accounts},
		port => $tallyd->port, pids => [], count => $want{customers},
		undecided => $want{undecided} || qr/^(?:408|503)$/, creator => $$ }, $class;
	for my $number (1 .. $want{customers}) {
		my $pid = fork;
		croak "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			my $ok = eval { $self->_customer($number); 1 };
			print STDERR "# customer $number: $@" unless $ok;
			POSIX::_exit($ok ? 0 : 1);
		}
		push @{ $self->{pids} }, $pid;
	}
	return $self;
}

# Tells the customers to finish what they have begun.  True if all could.
sub close {
	my ($self) = @_;
	kill 'TERM', @{ $self->{pids} };
	my $bad = grep { waitpid($_, 0) != $_ || $? != 0 } @{ $self->{pids} };
	$self->{pids} = [];
	return !$bad;
}

# Waits until the customers have been given COUNT answers more than now; false after the deadline.
sub wait_more {
	my ($self, $count, $deadline) = @_;
	my $from = $self->answers;
	return wait_until { $self->answers >= $from + $count } $deadline;
}

sub answers {
	my ($self) = @_;
	my $lines = 0;
	for my $number (1 .. $self->{count}) {
		my $log = $self->log_of($number);
		$lines += slurp($log) =~ tr/\n// if -e $log;
	}
	return $lines;
}

sub DESTROY {
	my ($self) = @_;
	return if $self->{creator} != $$;
	local ($?, $!);
	kill 'KILL', $_ and waitpid $_, 0 for splice @{ $self->{pids} };
	return;
}

sub log_of { my ($self, $number) = @_; return "$self->{dir}/$self->{prefix}$number" }

sub _customer {
	my ($self, $number) = @_;
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	local $SIG{PIPE} = 'IGNORE';
	srand($number * 7919);
	CORE::open(my $log, '>', $self->log_of($number)) or croak $!;
	$log->autoflush(1);
	my %mine = (self => $self, number => $number, log => $log, holds => [], serial => 0,
		stop => \$stop, answered => []);
	my @work = ((\&_event) x 5, (\&_transfer) x 3, (\&_transaction) x 2, (\&_hold) x 3,
		(\&_settle) x 4, \&_attributes, \&_visitor, \&_read, \&_again);
	until ($stop) {
		$work[rand @work]->(\%mine);
	}
	CORE::close $log or croak $!;
	return;
}

sub _name { my ($mine) = @_; return 'acct' . int rand $mine->{self}{accounts} }

sub _names {
	my ($mine, $count) = @_;
	my %names;
	$names{ _name($mine) } = 1 while keys %names < $count;
	my @names = keys %names;
	return @names;
}

sub _new_id {
	my ($mine) = @_;
	return "$mine->{self}{prefix}-$mine->{number}-" . ++$mine->{serial};
}

# One try: (status, head, body), or nothing if the connection broke.
sub _try {
	my ($mine, $text) = @_;
	my $socket = $mine->{socket} ||= IO::Socket::INET->new(PeerAddr => "127.0.0.1:$mine->{self}{port}",
		Timeout => 5) or return;
	my $answer = '';
	my $sent = syswrite $socket, $text;
	if (defined $sent && $sent == length $text) {
		while (1) {
			if ($answer =~ /\r\n\r\n/) {
				my ($head, $body) = ($`, $');
				my ($length) = $head =~ /^content-length: (\d+)/mi;
				if (length $body >= ($length || 0)) {
					delete $mine->{socket} if $head =~ /^connection: close/mi;
					return ($head =~ m{^HTTP/1\.1 (\d+)}, $head, $body);
				}
			}
			my $bits = '';
			vec($bits, fileno $socket, 1) = 1;
			last unless select $bits, undef, undef, 10 * patience();
			my $got = sysread $socket, $answer, 65_536, length $answer;
			last unless $got;
		}
	}
	delete $mine->{socket};
	return;
}

sub _text {
	my ($method, $path, $body) = @_;
	return "$method $path HTTP/1.1\r\nHost: bank\r\nContent-Type: application/json\r\n"
		. 'Content-Length: ' . length($body) . "\r\n\r\n$body";
}

# Until it is decided: a broken connection, 503 and 408 are tried again, under the same id.
sub _ask {
	my ($mine, $method, $path, $body) = @_;
	my $text = _text($method, $path, $body);
	my $end = time + ANSWER_DEADLINE * patience();
	while (time < $end) {
		my ($status, $head, $answer) = _try($mine, $text);
		if (defined $status && $status !~ $mine->{self}{undecided}) {
			if ($method ne 'GET') {
				my $asked = [$method, $path, $body, $status, $answer];
				_compare($mine, $asked) if rand(REPEATED) < 1;
				$mine->{answered}[$mine->{serial} % RECALLED] = $asked;
			}
			return ($status, $answer);
		}
		sleep PAUSE;
	}
	croak "no answer to $method $path $body";
}

# Asks once more what was answered: nothing may differ.
sub _compare {
	my ($mine, $asked) = @_;
	my ($method, $path, $body, $status, $answer) = @$asked;
	my ($again, $with, $same) = _try($mine, _text($method, $path, $body));
	return if !defined $again || $again =~ $mine->{self}{undecided};
	print { $mine->{log} } "odd\t$method $path $body was answered $status \"$answer\", "
		. "then $again \"$same\"\n" if $same ne $answer || $again != $status
		|| $with !~ /^Idempotent-Replayed: true/mi;
	return;
}

# One of the last few hundred, which may have been answered before a crash.
sub _again {
	my ($mine) = @_;
	my $answered = $mine->{answered};
	my $asked = @$answered ? $answered->[rand @$answered] : undef;
	_compare($mine, $asked) if $asked;
	return;
}

# Asks for a change, and writes down what it was meant to do: DELTA {account => amount}.
sub _change {
	my ($mine, $kind, $method, $path, $body, $delta) = @_;
	$body->{id} = _new_id($mine);
	my $text = JSON::PP->new->canonical->encode($body);
	my ($status, $answer) = _ask($mine, $method, $path, $text);
	print { $mine->{log} } join("\t", $kind, $status, $body->{id},
		join(',', map { "$_=$delta->{$_}" } sort keys %$delta), "$method $path $text", $answer) . "\n";
	return ($status, $answer, $body->{id});
}

sub _event {
	my ($mine) = @_;
	my $name = _name($mine);
	my $amount = int(rand 200) - 80 || 1; # 0 changes nothing
	_change($mine, 'event', 'POST', '/events', { account => $name, amount => $amount },
		{ $name => $amount });
	return;
}

sub _transfer {
	my ($mine) = @_;
	my ($from, $to) = _names($mine, 2);
	my $amount = 1 + int rand 60;
	_change($mine, 'transfer', 'POST', '/transfers',
		{ from => $from, to => $to, amount => $amount, note => "from $from" },
		{ $from => -$amount, $to => $amount });
	return;
}

sub _transaction {
	my ($mine) = @_;
	my @names = _names($mine, 2 + int rand 6);
	my %delta = map { $_ => int(rand 60) - 30 } @names;
	my $sum = 0;
	$sum += $_ for values %delta;
	$delta{ $names[0] } -= $sum;
	delete $delta{$_} for grep { $delta{$_} == 0 } @names;
	my @legs = map { { account => $_, amount => $delta{$_} } } sort keys %delta;
	return unless @legs;
	_change($mine, 'transaction', 'POST', '/transactions',
		{ legs => \@legs, balanced => JSON::PP::true }, \%delta);
	return;
}

sub _hold {
	my ($mine) = @_;
	my $name = _name($mine);
	my $amount = 1 + int rand 40;
	my $ttl = rand(4) < 1 ? SHORT_TTL : HOLD_TTL;
	my ($status, undef, $id) = _change($mine, 'hold', 'POST', '/holds',
		{ account => $name, amount => $amount, ttl => $ttl }, {});
	push @{ $mine->{holds} }, [$id, $name, $amount] if $status == 201;
	return;
}

sub _settle {
	my ($mine) = @_;
	my $holds = $mine->{holds};
	return unless @$holds;
	my ($id, $name, $amount) = @{ splice @$holds, rand @$holds, 1 };
	if (rand(3) < 1) {
		_change($mine, 'release', 'POST', "/holds/$id/release", {}, {});
		return;
	}
	my $captured = int rand $amount * 1.3;
	my %to = rand(2) < 1 ? (to => (grep { $_ ne $name } _names($mine, 2))[0]) : ();
	_change($mine, 'capture', 'POST', "/holds/$id/capture", { amount => $captured, %to },
		{ $name => -$captured, $to{to} ? ($to{to} => $captured) : () });
	return;
}

# Attributes come and go; the floor stays at zero.
sub _attributes {
	my ($mine) = @_;
	my $name = _name($mine);
	_change($mine, 'replace', 'PUT', "/accounts/$name", { floor => 0,
		ceiling => rand(2) < 1 ? undef : 200 + int rand 500,
		frozen => (('none') x 8, 'debits', 'all')[rand 10] }, {});
	return;
}

# An account that comes and goes.
sub _visitor {
	my ($mine) = @_;
	my $name = "visitor$mine->{number}";
	_change($mine, 'create', 'POST', '/accounts', { account => $name, floor => 0 }, {});
	_change($mine, 'event', 'POST', '/events', { account => $name, amount => 5 }, { $name => 5 });
	_change($mine, 'delete', 'DELETE', "/accounts/$name", {}, {}); # refused: it has 5
	_change($mine, 'event', 'POST', '/events', { account => $name, amount => -5 }, { $name => -5 });
	_change($mine, 'delete', 'DELETE', "/accounts/$name", {}, {});
	return;
}

sub _read {
	my ($mine) = @_;
	my $name = _name($mine);
	my ($status, $answer) = _ask($mine, 'GET', "/accounts/$name", '');
	my ($balance, $held) = $answer =~ /"balance":(-?\d+),"held":(-?\d+)/;
	print { $mine->{log} } "odd\tGET /accounts/$name: $answer\n"
		if $status == 200 && $balance - $held < 0;
	return;
}

# ---- the auditor

# What the customers were told: { told => { "account version" => [lsn, delta, balance] }, kinds =>
# { "kind status" => count }, odd => [..], holds => { id => [account, amount, state] }, asked =>
# [[method, path, body, status, answer], ..] }.
sub testimony {
	my ($self) = @_;
	my %all = (told => {}, kinds => {}, odd => [], holds => {}, asked => []);
	for my $number (1 .. $self->{count}) {
		CORE::open(my $log, '<', $self->log_of($number)) or croak $!;
		while (my $line = <$log>) {
			chomp $line;
			my ($kind, $status, $id, $delta, $request, $answer) = split /\t/, $line, 6;
			if ($kind eq 'odd') {
				push @{ $all{odd} }, $status;
				next;
			}
			$all{kinds}{"$kind $status"}++;
			push @{ $all{asked} }, [split(/ /, $request, 3), $status, $answer];
			_hear($self, \%all, $kind, $status, $id, { map { split /=/ } split /,/, $delta }, $answer);
		}
		CORE::close $log;
	}
	return \%all;
}

sub _hear {
	my ($self, $all, $kind, $status, $id, $delta, $answer) = @_;
	if ($status !~ /^20[01]$/) {
		push @{ $all->{odd} }, "$kind: $status $answer"
			unless $status =~ /^(?:402|404|409|422|423)$/ && $answer =~ /"reason":"\w+"/;
		if ($answer =~ /"insufficient_funds"/) {
			my ($balance, $held, $available, $required) = $answer =~
				/"balance":(-?\d+),"held":(-?\d+),"available":(-?\d+),"required":(-?\d+)/;
			push @{ $all->{odd} }, "$kind: $answer"
				unless defined $required && $available == $balance - $held && $required > $available;
		}
		return;
	}
	my ($lsn) = $answer =~ /"lsn":"(\w+)"/;
	while ($answer =~ /"account":"([^"]+)"[^{}]*?"balance":(-?\d+)[^{}]*?"version":(\d+)/g) {
		my ($name, $balance, $version) = ($1, $2, $3);
		next if $name =~ /^visitor/; # its versions begin anew
		push @{ $all->{odd} }, "$kind: version $version of $name was told twice"
			if $all->{told}{"$name $version"};
		$all->{told}{"$name $version"} = [$lsn, $delta->{$name} || 0, $balance];
	}
	$all->{holds}{$id} = 'open' if $kind eq 'hold';
	if ($kind eq 'capture' || $kind eq 'release') {
		my ($hold) = $answer =~ /"hold":"([^"]+)"/;
		push @{ $all->{odd} }, "$kind: $hold was settled twice"
			unless ($all->{holds}{$hold} || 'open') eq 'open';
		$all->{holds}{$hold} = "${kind}d" =~ s/released?d?$/released/r;
	}
	return;
}

# Asks everything again of which there is a testimony, and returns what is not answered as it was,
# byte for byte and as a replay, in words.
sub asked_again {
	my ($told, $tallyd) = @_;
	my @asked = @{ $told->{asked} };
	my $connection = $tallyd->connection;
	my @different;
	while (my @some = splice @asked, 0, PIPELINED) {
		send_all($connection, join '', map { _text(@$_[0 .. 2]) } @some);
		for my $one (@some) {
			my ($method, $path, $body, $status, $was) = @$one;
			my $answer = read_response($connection) or croak "no answer to $method $path $body";
			next if $answer->{status} == $status && $answer->{body} eq $was
				&& ($answer->{headers}{'idempotent-replayed'} || '') eq 'true';
			push @different, "$method $path $body was answered $status \"$was\", "
				. "then $answer->{status} \"$answer->{body}\"" if @different < AGAIN_TOLD;
		}
	}
	return @different;
}

sub _get {
	my ($tallyd, $connection, $path) = @_;
	my $answer = $tallyd->request('GET', $path, {}, undef, connection => $connection);
	croak "GET $path: $answer->{status} $answer->{body}" unless $answer->{status} == 200;
	return $answer->{json};
}

# What is listed under KEY of all pages that begin with PATH.
sub _pages {
	my ($tallyd, $connection, $path, $key) = @_;
	my @all;
	$path .= ($path =~ /\?/ ? '&' : '?') . 'limit=' . PAGE;
	while (defined $path) {
		my $page = _get($tallyd, $connection, $path);
		push @all, @{ $page->{$key} };
		$path = $page->{next};
	}
	return \@all;
}

# All accounts with their statements (oldest first) and open holds.
sub books {
	my ($tallyd) = @_;
	my $connection = $tallyd->connection;
	my %books;
	for my $account (@{ _pages($tallyd, $connection, '/accounts?prefix=acct', 'accounts') }) {
		croak "$account->{account} is listed twice" if $books{ $account->{account} };
		$books{ $account->{account} } = $account;
	}
	# A hold may expire while its account is being looked at: then it is looked at again.
	for my $name (keys %books) {
		my $tries = 0;
		do {
			croak "$name never stands still" if $tries++ == TRIES;
			my $entries = _pages($tallyd, $connection, "/accounts/$name/events", 'events');
			my $holds = _pages($tallyd, $connection, "/accounts/$name/holds", 'holds');
			$books{$name} = _get($tallyd, $connection, "/accounts/$name");
			$books{$name}{entries} = [reverse @$entries];
			$books{$name}{holds} = $holds;
		} until $books{$name}{version} == @{ $books{$name}{entries} };
	}
	return \%books;
}

# Compares what was told with the books: the differences, in words.
sub differences {
	my ($told, $books) = @_;
	my @wrong = @{ $told->{odd} };
	my (%seen, %sums);
	for my $name (sort keys %$books) {
		my $account = $books->{$name};
		my ($balance, $version, $held) = (0, 0, 0);
		for my $entry (@{ $account->{entries} }) {
			$version++;
			my $where = "$name version $version";
			push @wrong, "$where: the statement says version $entry->{version}"
				if $entry->{version} != $version;
			push @wrong, "$where: $balance + $entry->{amount} is not $entry->{balance}"
				if $balance + $entry->{amount} != $entry->{balance};
			$balance = $entry->{balance};
			$held = $entry->{held};
			push @wrong, "$where: the floor was broken: $balance, $held held" if $balance - $held < 0;
			$sums{ $entry->{lsn} } += $entry->{amount}
				if $entry->{type} eq 'transfer' || $entry->{type} eq 'transaction';
			my $was = $told->{told}{"$name $version"};
			if (!$was) {
				push @wrong, "$where: nobody was told of this $entry->{type}"
					unless $entry->{type} =~ /expire/;
				next;
			}
			$seen{"$name $version"} = 1;
			push @wrong, "$where: told lsn $was->[0], amount $was->[1], balance $was->[2]; "
				. "the statement says $entry->{lsn}, $entry->{amount}, $entry->{balance}"
				if $was->[0] ne $entry->{lsn} || $was->[1] != $entry->{amount}
				|| $was->[2] != $entry->{balance};
		}
		my $open = 0;
		$open += $_->{amount} for @{ $account->{holds} };
		push @wrong, "$name: balance $account->{balance}, its statement ends with $balance"
			if $account->{balance} != $balance;
		push @wrong, "$name: held $account->{held}, its statement ends with $held, its open holds sum "
			. "to $open" if $account->{held} != $held || $held != $open;
		push @wrong, "$name: version $account->{version} after $version changes"
			if $account->{version} != $version;
		for my $hold (@{ $account->{holds} }) {
			my $was = $told->{holds}{ $hold->{hold} } || 'unknown';
			push @wrong, "$name: hold $hold->{hold} is open, told $was" if $was ne 'open';
		}
	}
	push @wrong, "$_ was told and is not in the statement" for grep { !$seen{$_} } keys %{ $told->{told} };
	push @wrong, "the legs of $_ sum to $sums{$_}" for grep { $sums{$_} != 0 } keys %sums;
	return @wrong;
}

1;
