#!/usr/bin/perl
# Idempotency: the same id gets the same answer and is applied once, whichever worker answers, in a
# race, and across restart and crash; a refusal stays one; what was not decided is not remembered.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use JSON::PP ();
use Tallyd qw(patience read_response send_all wait_until);
use Test::More;

use constant {
	RACERS => 8,     # connections that send the same id at once
	RACES  => 25,
};

my $tallyd = Tallyd->start(config => { workers => 4, max_accounts => 2000, snapshot_every => '256K' });
use_daemon($tallyd);

# What must not differ between an answer and its replay.
sub essence {
	my ($answer) = @_;
	my %headers = %{ $answer->{headers} };
	delete @headers{qw(date idempotent-replayed)};
	return JSON::PP->new->canonical->pretty->encode([$answer->{status}, \%headers, $answer->{body}]);
}

sub is_replayed { return ($_[0]{headers}{'idempotent-replayed'} || '') eq 'true' }

# REQUEST, which has an id, is answered the same by all workers from now on.  Returns the answer.
sub twice {
	my ($request, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $first = $tallyd->call(@$request);
	ok(!is_replayed($first), "$name: the first is no replay");
	my @again = map { $tallyd->call(@$request) } 1 .. 6;
	my @different = grep { essence($_) ne essence($first) || !is_replayed($_) } @again;
	ok(!@different, "$name: the same answer, as a replay")
		or diag(essence($first), 'replayed: ', essence($different[0]));
	return $first;
}

my @remembered;    # [request, answer]: to be asked again after restarts

sub remember {
	my ($request, $status, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $answer = twice($request, $name);
	is($answer->{status}, $status, "$name: $status");
	push @remembered, [$request, $answer, $name];
	return;
}

sub test_every_operation {
	remember(['POST', '/accounts', { account => 'a', floor => 0, id => 'op-1' }], 201, 'a creation');
	remember(event('a', 100, id => 'op-2', note => 'a "note"'), 200, 'an event');
	remember(event('a', 0, id => 'op-2b'), 200, 'an event of nothing');
	remember(['POST', '/transfers', { from => 'a', to => 'b', amount => 10, id => 'op-3' }], 200, 'a transfer');
	remember(['POST', '/transactions', { legs => [map { { account => "t$_", amount => $_ } } 1 .. 16], id => 'op-4' }],
		200, 'a transaction');
	remember(['PUT', '/accounts/a', { floor => -5, ceiling => 1000, frozen => 'none', id => 'op-5' }], 200, 'a replacement');
	remember(['PUT', '/accounts/made', { id => 'op-5b' }], 201, 'a replacement that makes');
	remember(['POST', '/holds', { account => 'a', amount => 20, ttl => 3600, id => 'op-6' }], 201, 'a hold');
	remember(['POST', '/holds/op-6/capture', { amount => 15, to => 'b', id => 'op-7' }], 200, 'a capture');
	remember(['POST', '/holds', { account => 'a', amount => 20, ttl => 3600, id => 'op-8' }], 201, 'another hold');
	remember(['POST', '/holds/op-8/release', { id => 'op-9' }], 200, 'a release');
	remember(['DELETE', '/accounts/made', { id => 'op-10' }], 200, 'a deletion');
	is(balances(qw(a b t16)), '75 25 16', 'each was applied once');
	return;
}

sub test_refusals {
	call('POST', '/accounts', { account => 'poor', floor => 0, ceiling => 50 });
	my @refusals = (
		[402, event('poor', -1, id => 'no-402')],
		[404, ['DELETE', '/accounts/later', { id => 'no-404' }]],
		[409, ['POST', '/accounts', { account => 'poor', id => 'no-409' }]],
		[412, [@{ event('poor', 1, id => 'no-412') }, { 'If-Match' => '"2"' }]],
		[422, event('poor', 51, id => 'no-422')],
		[422, ['POST', '/transactions', { legs => [{ account => 'poor', amount => 1 }], balanced => JSON::PP::true, id => 'no-422b' }]],
		[404, ['POST', '/holds/unheld/capture', { id => 'no-404b' }]],
		[422, ['POST', '/transfers', { from => 'poor', to => 'poor', amount => 1, id => 'no-422c' }]],
	);
	remember($_->[1], $_->[0], "a refusal with $_->[0]") for @refusals;
	call('PUT', '/accounts/poor', { floor => 0, frozen => 'all' });
	remember(event('poor', 1, id => 'no-423'), 423, 'a refusal with 423');
	# Now all of them would succeed.
	call('PUT', '/accounts/poor', {});
	call('POST', '/accounts', { account => 'later' });
	is($tallyd->call(@{ $_->[1] })->{status}, $_->[0], "a retry turns no $_->[0] into a yes") for @refusals;
	is(balances('poor', 'later'), '0 0', 'nothing was applied');
	return;
}

sub test_keys {
	my $request = event('keyed', 1);
	my $first = gives([@$request, { 'Idempotency-Key' => 'key-1' }], 200, { balance => 1 }, 'Idempotency-Key');
	for my $value ('"key-1"', 'key-1') {
		my $again = gives([@$request, { 'Idempotency-Key' => $value }], 200, { balance => 1 }, "again as $value");
		ok(is_replayed($again), 'a replay');
	}
	ok(is_replayed(gives(event('keyed', 1, id => 'key-1'), 200, { balance => 1 }, 'again in the body')), 'a replay');
	gives([@{ event('keyed', 1, id => 'key-1') }, { 'Idempotency-Key' => 'key-1' }], 200, { balance => 1 }, 'and in both');
	refused([@{ event('keyed', 1, id => 'key-2') }, { 'Idempotency-Key' => 'key-1' }], 400, 'id_conflict', 'but the same in both');
	refused([@$request, { 'Idempotency-Key' => $_ }], 400, 'invalid_idempotency_key', "a key is not: $_")
		for '', '""', '"a b"', 'a b', '"key', 'x' x 129, '"a", "b"';
	refused(['POST', '/events', '{"account":"keyed","amount":1}', ['Idempotency-Key' => 'k', 'Idempotency-Key' => 'k']],
		400, 'invalid_idempotency_key', 'nor two');
	gives([@$request, { 'Idempotency-Key' => 'x' x 128 }], 200, { balance => 2 }, '128 bytes are');
	gives([@$request, { 'Idempotency-Key' => '"a\"b\\\\c"' }], 200, { balance => 3 }, 'escapes are undone');
	ok(is_replayed(gives(event('keyed', 1, id => 'a"b\\c'), 200, { balance => 3 }, 'so that it is the id')), 'a replay');
	refused(event('keyed', 1, id => $_), 400, 'invalid_id', "an id is not: $_") for '', 'a b', "\x{e9}", 'x' x 129;
	return;
}

sub test_reuse {
	gives(event('reuse', 5, id => 'r-1', note => 'n'), 200, { balance => 5 }, 'an id');
	my @others = (
		[event('reuse', 6, id => 'r-1', note => 'n'), 'another amount'],
		[event('other', 5, id => 'r-1', note => 'n'), 'another account'],
		[event('reuse', 5, id => 'r-1', note => 'm'), 'another note'],
		[event('reuse', 5, id => 'r-1'), 'no note'],
		[[@{ event('reuse', 5, id => 'r-1', note => 'n') }, { 'If-Match' => '"1"' }], 'a condition'],
		[['POST', '/transfers', { from => 'x', to => 'reuse', amount => 5, id => 'r-1', note => 'n' }], 'another operation'],
		[['POST', '/transfers', { from => 'reuse', to => 'reuse', amount => 5, id => 'r-1', note => 'n' }], 'a transfer to itself'],
		[['POST', '/holds', { account => 'reuse', amount => 5, ttl => 5, id => 'r-1', note => 'n' }], 'a hold'],
	);
	refused($_->[0], 422, 'id_reused', "the same id with $_->[1]") for @others;
	is(balances(qw(reuse other x)), '5 - -', 'changes nothing');
	ok(is_replayed(gives(event('reuse', '5', id => 'r-1', note => 'n'), 200, { balance => 5 }, 'written otherwise')),
		'it is the same');
	ok(is_replayed(gives(['POST', '/events', '{ "id":"r-1" , "note":"\u006e", "amount":"5", "user":"reuse" }'], 200,
		{ balance => 5 }, 'in any order')), 'likewise');
	return;
}

# The same id on many connections at the same moment.
sub test_races {
	my @sockets = map { $tallyd->connection } 1 .. RACERS;
	my $bad = 0;
	for my $round (1 .. RACES) {
		my $body = qq({"account":"race","amount":1,"id":"race-$round"});
		my $request = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
		send_all($_, $request) for @sockets;
		my @answers = map { read_response($_) } @sockets;
		my %essences = map { essence($_) => 1 } @answers;
		my $replays = grep { is_replayed($_) } @answers;
		$bad++ unless keys %essences == 1 && $replays == RACERS - 1 && $answers[0]{json}{balance} == $round;
	}
	is($bad, 0, 'racing retries: applied once, all answered the same');
	is($tallyd->balance('race'), RACES, 'and the balance says so');
	return;
}

sub test_transfer_races {
	my @sockets = map { $tallyd->connection } 1 .. RACERS;
	my $bad = 0;
	for my $round (1 .. RACES) {
		my ($from, $to) = $round % 2 ? qw(left right) : qw(right left);
		my $body = qq({"from":"$from","to":"$to","amount":$round,"id":"swap-$round"});
		my $request = "POST /transfers HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
		send_all($_, $request) for @sockets;
		my %essences = map { essence(read_response($_)) => 1 } @sockets;
		$bad++ unless keys %essences == 1;
	}
	is($bad, 0, 'the same of transfers');
	is(balances(qw(left right)), '-13 13', 'each moved once');
	return;
}

sub test_again {
	my ($when) = @_;
	my @different = grep { my $answer = $tallyd->call(@{ $_->[0] });
		essence($answer) ne essence($_->[1]) || !is_replayed($answer) } @remembered;
	ok(!@different, "$when every answer is the same, byte for byte")
		or diag(join "\n", map { $_->[2], essence($_->[1]), essence($tallyd->call(@{ $_->[0] })) } @different);
	return;
}

sub test_restarts {
	test_again('later');
	is($tallyd->stop, 0, 'stopped');
	$tallyd->start_again;
	use_daemon($tallyd);
	test_again('after a restart');
	$tallyd->kill9;
	$tallyd->start_again;
	use_daemon($tallyd);
	test_again('after a crash');
	my $mark = $tallyd->log_mark;
	my $note = 'x' x 250;
	my $body = qq({"account":"filler","amount":1,"note":"$note"});
	my $request = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
	my $socket = $tallyd->connection;
	my $written = wait_until {
		send_all($socket, $request x 100);
		read_response($socket) for 1 .. 100;
		return $tallyd->wait_log(qr/snapshot at position/, 0.01, $mark);
	} 30;
	ok($written, 'a snapshot');
	$tallyd->kill9;
	$tallyd->start_again;
	use_daemon($tallyd);
	test_again('from the snapshot');
	is(balances(qw(a b t16)), '75 25 16', 'nothing was applied twice');
	return;
}

# What was not decided is not remembered: the retry is decided then.
sub test_undecided {
	$tallyd->set_config(queue_events => 1, journal_delay => 300);
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded/, 20, $mark), 'a queue of one');
	my @sockets = map { $tallyd->connection } 1 .. RACERS;
	for my $i (1 .. RACERS) {
		my $body = qq({"account":"queue","amount":1,"id":"queue-$i"});
		send_all($sockets[$i - 1], "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
	}
	my %statuses;
	$statuses{ read_response($_)->{status} }++ for @sockets;
	cmp_ok($statuses{503} || 0, '>', 0, 'some find it full') or diag(explain(\%statuses));
	$tallyd->set_config(queue_events => undef, journal_delay => undef);
	$mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded/, 20, $mark), 'a queue again');
	my $late = 0;
	for my $i (1 .. RACERS) {
		my $answer = $tallyd->call(@{ event('queue', 1, id => "queue-$i") });
		$late++ if $answer->{status} == 200 && !is_replayed($answer);
	}
	is($late, $statuses{503}, 'their retries are applied');
	is($tallyd->balance('queue'), RACERS, 'all once');
	return;
}

sub test_forgetting {
	is($tallyd->stop, 0, 'stopped');
	my $small = Tallyd->start(config => { workers => 1, max_accounts => 2000, max_ids => 64 });
	use_daemon($small);
	my $about = call('GET', '/')->{json};
	is("$about->{id_window} $about->{ids_forgotten}", '86400 0', 'GET / says how long ids are kept');
	my $mark = $small->log_mark;
	call(@{ event('a', 1, id => "id-$_") }) for 1 .. 400;
	$about = call('GET', '/')->{json};
	cmp_ok($about->{ids_forgotten}, '>', 0, 'a full table forgets, and counts it');
	cmp_ok($about->{id_window}, '<', 60, 'the window is what is really kept');
	ok($small->wait_log(qr/\bids?\b.*max_ids/, 15, $mark), 'it is logged');
	ok(is_replayed(gives(event('a', 1, id => 'id-400'), 200, { balance => 400 }, 'the newest is there')), 'a replay');
	$small->kill9;
	$small->start_again;
	use_daemon($small);
	$about = call('GET', '/')->{json};
	cmp_ok($about->{id_window}, '<', 60, 'what was forgotten before a start is missing after it too');
	is($about->{ids_forgotten}, 0, 'but was not forgotten in this run');
	ok($small->wait_log(qr/were forgotten before this start.*max_ids/, 15), 'it is logged');
	is($small->stop, 0, 'stopped');
	return;
}

test_every_operation();
test_refusals();
test_keys();
test_reuse();
test_races();
test_transfer_races();
test_restarts();
test_undecided();
test_forgetting();
done_testing();
