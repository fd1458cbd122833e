#!/usr/bin/perl
# Several events in one request, or in requests one behind the other: arrays, arrays that are one
# transaction, and pipelined events, which are applied together and answered as if they were not.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use Test::More;

use lib "$FindBin::RealBin/lib";
use Tallyd qw(send_all read_response);

use constant EVENTS_MAX => 1000;

my $tallyd = Tallyd->start(config => { workers => 1 });
my $connection = $tallyd->connection;

sub ask {
	my ($method, $path, $body, %headers) = @_;
	return $tallyd->request($method, $path, { 'Content-Type' => 'application/json', %headers },
		ref $body ? JSON::PP->new->canonical->encode($body) : $body, connection => $connection);
}

sub post { my ($body, %headers) = @_; return ask('POST', '/events', $body, %headers) }
sub atomic { my ($body, %headers) = @_; return ask('POST', '/events?atomic=true', $body, %headers) }
sub event { my ($account, $amount, @more) = @_; return { account => $account, amount => $amount, @more } }
sub reason { my ($answer) = @_; return ref $answer->{json} eq 'HASH' ? $answer->{json}{reason} // 'none' : 'none' }
sub balances { return [map { $tallyd->balance($_, connection => $connection) } @_] }

sub account {
	my ($name, %attributes) = @_;
	my $answer = ask('POST', '/accounts', { account => $name, %attributes });
	die "no account $name: $answer->{body}" unless $answer->{status} == 201;
	return;
}

subtest 'an array' => sub {
	account('poor', floor => 0);
	my $answer = post([event('x', 5), event('poor', -1), event('x', 'word'), event('x', -2),
		event('y', 1, id => 'once'), event('y', 1, id => 'once'), event('y', 2, id => 'once')]);
	is($answer->{status}, 200, 'is answered');
	my @got = map { $_->{reason} || "$_->{account}=$_->{balance}" } @{ $answer->{json} };
	is_deeply(\@got, [qw(x=5 insufficient_funds invalid_amount x=3 y=1 y=1 id_reused)],
		'each of its events by itself, in order');
	is_deeply(balances(qw(x poor y)), [3, 0, 1], 'and applied so');
	is_deeply(post([])->{json}, [], 'none, no answers');
	for (['If-Match', '"1"'], ['If-None-Match', '*'], ['Idempotency-Key', 'k']) {
		my $refused = post([event('x', 1)], @$_);
		is($refused->{json}{reason}, 'unsupported_condition', "several events cannot have one $_->[0]");
		like($refused->{json}{detail}, qr/^$_->[0] is /, 'which is what it names');
	}
	is(post('[{"account":"x","amount":1}')->{json}{reason}, 'invalid_json', 'a broken one is refused');
	is(post([map { event('x', 1) } 0 .. EVENTS_MAX])->{json}{reason}, 'too_many_events',
		EVENTS_MAX . ' events at most');
	is_deeply(balances('x'), [3], 'nothing of these was applied');
	my $all = post([map { event('z' . $_ % 7, 1) } 1 .. EVENTS_MAX]);
	is(scalar(grep { $_->{status} eq 'accepted' } @{ $all->{json} }), EVENTS_MAX,
		EVENTS_MAX . ' events');
	is($all->{json}[-1]{balance}, 143, 'the last sees all before');
};

subtest 'lines are no transaction' => sub {
	my %lines = (headers => { 'Content-Type' => 'application/x-ndjson' }, body => qq({"account":"x","amount":1}\n));
	my $ask = sub { return $tallyd->request('POST', "/events?atomic=$_[0]", $lines{headers}, $lines{body}) };
	my $balance = balances('x')->[0];
	my $answer = $ask->('true');
	is("$answer->{status} $answer->{json}{reason}", '400 unsupported_atomic', 'whoever wants that is refused');
	$answer = $ask->('perhaps');
	is("$answer->{status} $answer->{json}{reason}", '400 invalid_atomic', 'and who does not know what he wants');
	is_deeply(balances('x'), [$balance], 'of which nothing was applied');
	is($ask->('false')->{status}, 200, 'who does not want it is served');
	is_deeply(balances('x'), [$balance + 1], 'line by line');
};

subtest 'an array that is one transaction' => sub {
	my $answer = atomic([event('p', 7), event('q', -7), event('p', 3)]);
	is($answer->{status}, 200, 'is answered');
	is_deeply([map { "$_->{account}=$_->{balance}:$_->{version}" } @{ $answer->{json} }],
		[qw(p=10:1 q=-7:1 p=10:1)], 'with the accounts as they are after all of it');
	is(scalar(keys %{ { map { $_->{lsn} => 1 } @{ $answer->{json} } } }), 1, 'in one record');

	$answer = atomic([event('p', 1), event('poor', 5), event('poor', -6)]);
	is($answer->{status}, 402, 'what one account refuses, refuses all');
	is_deeply([@{ $answer->{json} }{qw(reason leg account)}], ['insufficient_funds', 1, 'poor'],
		'and is named');
	is_deeply(balances(qw(p poor)), [10, 0], 'nothing is applied');
	is(atomic([event('poor', -5), event('poor', 6)])->{status}, 200, 'only the sum of an account counts');
	is_deeply(balances('poor'), [1], 'and is applied');

	$answer = atomic([map { event("m$_", 1) } 1 .. 16]);
	is($answer->{status}, 200, '16 accounts');
	$answer = atomic([map { event("n$_", 1) } 1 .. 17]);
	is("$answer->{status} $answer->{json}{reason}", '422 too_many_accounts', 'and no more');
	$answer = atomic([map { event('p', 1) } 1 .. EVENTS_MAX]);
	is(scalar @{ $answer->{json} }, EVENTS_MAX, EVENTS_MAX . ' events of one account');
	is($answer->{json}[0]{balance}, 10 + EVENTS_MAX, 'are one change');
	is_deeply(atomic([])->{json}, [], 'nothing is a transaction too');

	$answer = atomic([event('p', 1), event('p', 1, id => 'i')]);
	is($answer->{json}{reason}, 'invalid_id', 'its events have no ids');
	like($answer->{json}{detail}, qr/^event 1: /, 'says which');
	is(atomic([event('p', 1), event('p', 'x')])->{json}{reason}, 'invalid_amount',
		'one that cannot be read refuses all');
	is(atomic([event('p', '9223372036854775807'), event('p', 1)])->{json}{reason}, 'overflow',
		'a sum outside int64 refuses all');
	is(ask('POST', '/events?atomic=yes', [event('p', 1)])->{json}{reason}, 'invalid_atomic',
		'atomic is true or false');
	is_deeply(balances('p'), [10 + EVENTS_MAX], 'none of these was applied');
};

subtest 'a transaction with an id' => sub {
	my @key = ('Idempotency-Key' => '"batch-1"');
	my $first = atomic([event('t', 1), event('u', 2)], @key);
	my $again = atomic([event('t', 1), event('u', 2)], @key);
	is($again->{body}, $first->{body}, 'is answered the same again');
	is($again->{headers}{'idempotent-replayed'}, 'true', 'and says so');
	is(atomic([event('t', 1), event('u', 3)], @key)->{json}{reason}, 'id_reused',
		'another one with its id is refused');
	is_deeply(balances(qw(t u)), [1, 2], 'it was applied once');

	# What comes to the same is not the same.
	my @sum = ('Idempotency-Key' => 'batch-2');
	is(atomic([event('t', 5), event('u', 1), event('t', -2)], @sum)->{status}, 200, 'a sum with an id');
	my @others = (
		[[event('t', 3), event('u', 1)], 'the sum'],
		[[event('t', -2), event('u', 1), event('t', 5)], 'another order'],
		[[event('t', 5), event('t', -2), event('u', 1)], 'another order, of other accounts'],
		[[event('t', 5), event('u', 1), event('t', -2), event('t', 0)], 'one event more'],
	);
	is(reason(atomic($_->[0], @sum)), 'id_reused', "$_->[1] is not it") for @others;
	my @plain = ('Idempotency-Key' => 'batch-3');
	my $legs = { legs => [event('t', 3), event('u', 1)] };
	is(reason(ask('POST', '/transactions', $legs, 'Idempotency-Key' => 'batch-2')), 'id_reused',
		'nor is a transaction');
	is(ask('POST', '/transactions', $legs, @plain)->{status}, 200, 'a transaction with an id');
	is(reason(atomic($legs->{legs}, @plain)), 'id_reused', 'is no array');
	is(ask('POST', '/transactions', $legs, @plain)->{headers}{'idempotent-replayed'}, 'true', 'but itself');
	$again = atomic([event('t', 5), event('u', 1), event('t', -2)], @sum);
	is($again->{headers}{'idempotent-replayed'}, 'true', 'as the sum is');
	is_deeply(balances(qw(t u)), [7, 4], 'each was applied once');
};

sub text {
	my ($body, $more) = @_;
	$more //= '';
	return "POST /events HTTP/1.1\r\nHost: t\r\n${more}Content-Length: " . length($body) . "\r\n\r\n$body";
}

# Answers without what depends on when and after what they were asked for.
sub plain {
	my ($answer) = @_;
	my %headers = %{ $answer->{headers} };
	delete @headers{qw(date content-length)};
	return join "\n", $answer->{status}, (map { "$_: $headers{$_}" } sort keys %headers),
		$answer->{body} =~ s/"lsn":"\d+"/"lsn"/r;
}

subtest 'pipelined events' => sub {
	my @kinds = (
		sub { text(qq({"account":"$_[0]","amount":3})) },
		sub { text(qq({"account":"$_[0]","amount":-4})) },
		sub { text(qq({"account":"$_[0]-floor","amount":-4})) },
		sub { text(qq({"account":"$_[0]","amount":1,"id":"$_[0]-same"})) },
		sub { text(qq({"account":"$_[0]","amount":2}), qq(Idempotency-Key: "$_[0]-key"\r\n)) },
		sub { text(qq({"account":"$_[0]","amount":2}), qq(If-Match: "3"\r\n)) },
		sub { text('{"account":1}') },
		sub { "GET /accounts/$_[0] HTTP/1.1\r\nHost: t\r\n\r\n" },
	);
	srand 11;
	my @order = map { int rand @kinds } 1 .. 300;
	my %got;
	for my $name (qw(single group)) {
		account("$name-floor", floor => 0);
		my @requests = map { $kinds[$_]->($name) } @order;
		my $socket = $tallyd->connection;
		if ($name eq 'group') {
			send_all($socket, join '', @requests);
			$got{$name} = [map { plain(read_response($socket)) } @requests];
		} else {
			$got{$name} = [map { send_all($socket, $_); plain(read_response($socket)) } @requests];
		}
		s/single|group/name/g, s/"(created|updated)":"[^"]*"/"$1"/g for @{ $got{$name} };
	}
	is_deeply($got{group}, $got{single}, 'are answered as they are one by one');
	my %seen = map { /^(\d+)/ ? ($1 => 1) : () } @{ $got{single} };
	is_deeply([sort keys %seen], [200, 400, 402, 412], 'in all their ways');
};

is($tallyd->stop, 0, 'the daemon stops');
done_testing;
