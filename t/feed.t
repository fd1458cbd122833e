#!/usr/bin/perl
# GET /feed: its shapes, where it begins and ends, and that only what is durable is in it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(time sleep);
use Check;
use Feed;
use Tallyd qw(wait_until patience);

my $tallyd = use_daemon(Tallyd->start(config => { workers => 1, feed_heartbeat => 0.2,
	cors_origin => 'https://app.example.org' }));

sub feed { return Feed->open($tallyd, @_) }
sub names { return join ' ', map { join '+', map { $_->{account} } @{ $_->{legs} } } @_ }
sub lsns { return join ' ', map { $_->{lsn} } @_ }
sub types { return join ' ', map { $_->{type} } @_ }

# ---- what is in it

gives(event('alice', 100, id => 'first', note => "\x{e9}t\x{e9} \"x\""), 200, {}, 'an event');
gives(['POST', '/transfers', { from => 'alice', to => 'bob', amount => 30 }], 200, {}, 'a transfer');
gives(['POST', '/transactions', { legs => [{ account => 'alice', amount => -1 },
	{ account => 'bob', amount => 2 }, { account => 'carol', amount => -3 }] }], 200, {}, 'a transaction');
gives(['POST', '/accounts', { account => 'dave', floor => -5, frozen => 'debits' }], 201, {}, 'made');
gives(['PUT', '/accounts/dave', { ceiling => 7 }], 200, {}, 'replaced');
gives(['DELETE', '/accounts/dave'], 200, {}, 'deleted');
gives(['POST', '/holds', { account => 'bob', amount => 10, ttl => 60, id => 'h1' }], 201, {}, 'a hold');
gives(['POST', '/holds/h1/capture', { amount => 4, to => 'shop' }], 200, {}, 'captured');
gives(['POST', '/holds', { account => 'bob', amount => 5, ttl => 60, id => 'h2' }], 201, {}, 'another');
gives(['POST', '/holds/h2/release'], 200, {}, 'released');
gives(['POST', '/holds', { account => 'bob', amount => 6, ttl => 1, id => 'h3' }], 201, {}, 'one to expire');
ok(wait_until { call('GET', '/holds/h3')->{json}{state} eq 'expired' }, 'which it does');
refused(['POST', '/holds/h1/release', { id => 'no' }], 409, 'hold_settled', 'a refusal that is remembered');
gives(event('alice', 0, id => 'nothing'), 200, {}, 'and something that changes nothing');
my $statement = call('GET', '/accounts/bob/events')->{json}{events};

my $all = feed('?follow=false');
is($all->{head}{status}, 200, 'a feed');
is_deeply([@{ $all->{head}{headers} }{qw(content-type cache-control connection transfer-encoding)}],
	['text/event-stream', 'no-store', 'close', 'chunked'], 'of events, fresh, to the end of the connection');
my @events = $all->rest;
ok($all->{clean}, 'which is a clean one');
is($all->{retry}, 1000, 'whoever is cut off comes back after a second');
is(types(@events), 'event transfer transaction create replace delete hold capture hold release hold expire',
	'each operation that changed something, in order');
is_deeply($events[0], { lsn => $events[0]{lsn}, time => $events[0]{time}, type => 'event', id => 'first',
	note => "\x{e9}t\x{e9} \"x\"",
	legs => [{ account => 'alice', amount => 100, balance => 100, held => 0, version => 1 }] }, 'an event, whole');
is_deeply($events[1]{legs}, [{ account => 'alice', amount => -30, balance => 70, held => 0, version => 2 },
	{ account => 'bob', amount => 30, balance => 30, held => 0, version => 1 }], 'a transfer has two legs');
is(names($events[2]), 'alice+bob+carol', 'a transaction has as many as there are');
is_deeply([@{ $events[3] }{qw(floor ceiling frozen)}], [-5, undef, 'debits'], 'who is made has attributes');
is_deeply([@{ $events[4] }{qw(floor ceiling frozen)}], [undef, 7, 'none'], 'who is replaced too');
is_deeply([@{ $events[6] }{qw(hold reserved)}, $events[6]{legs}[0]{held}], ['h1', 10, 10], 'a hold reserves');
like($events[6]{expires}, qr/^\d{4}-\d\d-\d\dT.*Z$/, 'until a time');
is_deeply([@{ $events[7] }{qw(hold reserved)}, map { @$_{qw(account amount held)} } @{ $events[7]{legs} }],
	['h1', 10, 'bob', -4, 0, 'shop', 4, 0], 'a capture says what was reserved, and who got what');
is_deeply([map { $_->{hold} } @events[8 .. 11]], ['h2', 'h2', 'h3', 'h3'], 'so do release and expiry');
ok(!(grep { $events[$_]{lsn} <= $events[$_ - 1]{lsn} } 1 .. $#events), 'LSNs ascend');
for my $line (@$statement) {
	my ($event) = grep { $_->{lsn} eq $line->{lsn} } @events;
	my ($leg) = grep { $_->{account} eq 'bob' } @{ $event->{legs} };
	is_deeply([@$leg{qw(amount balance held version)}, @$event{qw(time type hold)}],
		[@$line{qw(amount balance held version time type hold)}], "$line->{type}: as in the statement");
}

# ---- its other shape, and what is asked for

for (['?follow=false&format=ndjson', {}], ['?follow=false', { Accept => 'application/x-ndjson' }],
	['?follow=false', { Accept => 'text/event-stream;q=0.5, application/x-ndjson' }]) {
	my $lines = feed(@$_);
	is($lines->{head}{headers}{'content-type'}, 'application/x-ndjson', 'lines are asked for');
	is_deeply([$lines->rest], \@events, 'and have the same in them');
}
is(feed('?follow=false', { Accept => $_ })->{head}{headers}{'content-type'}, 'text/event-stream', "$_: events")
	for '*/*', 'text/event-stream', 'application/x-ndjson, text/event-stream', 'application/x-ndjson;q=0';
is(feed('?follow=false&format=sse', { Accept => 'application/x-ndjson' })->{head}{headers}{'content-type'},
	'text/event-stream', 'format is above Accept');

my $ten = feed('?follow=false', {}, version => '1.0');
is($ten->{head}{headers}{'transfer-encoding'}, undef, 'HTTP/1.0: bare');
is(lsns($ten->rest), lsns(@events), 'to the end of the connection');
ok($ten->{closed}, 'which comes');

my $head = call('HEAD', '/feed?format=ndjson');
is_deeply([$head->{status}, $head->{headers}{'content-type'}, $head->{body}], [200, 'application/x-ndjson', ''],
	'HEAD: the head alone');
is(call('GET', '/healthz')->{status}, 200, 'and the connection goes on');
is(feed('?follow=false', { Origin => 'https://app.example.org' })->{head}{headers}{'access-control-allow-origin'},
	'https://app.example.org', 'a page that may read it');
is(call('OPTIONS', '/feed')->{headers}{allow}, 'GET, HEAD, OPTIONS', 'OPTIONS');
is(call('POST', '/feed', {})->{status}, 405, 'nothing is posted there');

is(names(feed("?follow=false&account=$_->[0]")->rest), $_->[1], "account=$_->[0]")
	for ['al', 'alice alice+bob alice+bob+carol'], ['car', 'alice+bob+carol'], ['alice2', ''],
		['sh%6Fp', 'bob+shop'], ['nobody', ''];

# ---- where it begins

my $third = $events[2]{lsn};
my $after = lsns(@events[3 .. $#events]);
is(lsns(feed("?follow=false&after=$third")->rest), $after, 'after an LSN');
is(lsns(feed("?follow=false&after=0")->rest), lsns(@events), 'after 0: all');
is(lsns(feed('?follow=false', { 'Last-Event-ID' => $third })->rest), $after, 'Last-Event-ID');
is(lsns(feed('?follow=false&after=0', { 'Last-Event-ID' => $third })->rest), $after,
	'which is above the path of the first request');
is(lsns(feed('?follow=false&after=' . ($third - 1))->rest), "$third $after", 'after the LSN before one: with it');
is(lsns(feed("?follow=false&after=$all->{id}")->rest), '', 'after its last id there is nothing more');
for my $bad ($third + 1, $third + 8, $third + 7, $third - 2, 7, $events[-1]{lsn} + 1_000_000,
	$events[-1]{lsn} + 999_999, 'x', '', '-1', '18446744073709551615', '18446744073709551616', "$third&after=0") {
	refused(['GET', "/feed?follow=false&after=$bad"], 400, 'invalid_after', "after=$bad");
}
is(feed('?follow=false', { 'Last-Event-ID' => 'x' })->{head}{status}, 400, 'nor a Last-Event-ID that is none');
refused(['GET', '/feed?follow=maybe'], 400, 'invalid_follow', 'follow=maybe');
refused(['GET', '/feed?format=xml'], 400, 'invalid_format', 'format=xml');
refused(['GET', '/feed?account=' . 'a' x 101], 400, 'invalid_prefix', 'a name longer than any');

# ---- what comes

my $live = feed('');
my $lines = feed('?format=ndjson&account=bo');
gives(event('alice', 1), 200, {}, 'an event while they follow');
my $answer = gives(event('bob', 1), 200, {}, 'and one for both');
is(names($live->take(2)), 'alice bob', 'it comes, and nothing from before');
is(lsns($lines->take(1)), $answer->{json}{lsn}, 'and to whom it concerns');

# A refusal that is remembered is a record, but no event.  Still the position moves.
refused(['POST', '/holds/h1/release', { id => 'no2' }], 409, 'hold_settled', 'a refusal');
my $id = $live->{id};
ok($live->until_true(10, sub { $live->{comments} > 1 && $live->{id} > $id }), 'silence is commented on');
is(scalar @{ $live->{events} }, 0, 'no event');
is($live->{id} % 8, 7, 'the id is the one before a position');
is(lsns(feed('?follow=false', { 'Last-Event-ID' => $live->{id} })->rest), '', 'from which one can go on');
my $next = gives(event('alice', 1), 200, {}, 'the next event')->{json}{lsn};
cmp_ok($next, '>', $live->{id}, 'is behind it');
is(lsns(feed('?follow=false', { 'Last-Event-ID' => $live->{id} })->take(1)), $next, 'and comes first from there');

# What a client says meanwhile is of no account; when it says no more it gets what there is.
Tallyd::send_all($live->socket, "GET / HTTP/1.1\r\nHost: x\r\n\r\n" x 3000);
$live->take(1);
gives(event('alice', 1), 200, {}, 'another');
is(names($live->take(1)), 'alice', 'which comes all the same');
shutdown $live->socket, 1;
ok($live->ended, 'half closed, it ends cleanly');

sub descriptors { my @all = glob "/proc/$_[0]/fd/*"; return scalar @all }
my ($worker) = map { $_->{pid} } $tallyd->children('worker');
my $before = descriptors($worker);
my @many = map { feed('') } 1 .. 50;
is(descriptors($worker), $before + 50, 'many feeds');
$_->close for @many;
ok(wait_until { descriptors($worker) <= $before }, 'who goes away is noticed');

# ---- only what is durable

my ($journal) = map { $_->{pid} } $tallyd->children('journal');
$live = feed('');
$live->take_for(0.05);
kill 'STOP', $journal;
my $waiting = $tallyd->connection;
my $body = '{"account":"early","amount":1}';
Tallyd::send_all($waiting, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
is(lsns($live->take_for(0.3)), '', 'while the journal stands still nothing is shown');
is(lsns(feed('?account=early&follow=false')->rest), '', 'to nobody');
kill 'CONT', $journal;
is(Tallyd::read_response($waiting)->{status}, 200, 'it goes on: the answer');
is(names($live->take(1)), 'early', 'and the event');
close $waiting;

# ---- the end of the service


$live = feed('');
$tallyd->set_config(workers => 2);
$tallyd->hup;
ok($live->ended(10), 'a reload ends it cleanly');
my $next_lsn = wait_until { eval { $tallyd->event('alice', 1)->{json}{lsn} } };
is(lsns(feed('', { 'Last-Event-ID' => $live->{id} })->take(1)), $next_lsn, 'and it goes on with the next worker');
use_daemon($tallyd); # lets go of the connection that keeps the old one
ok(wait_until { !grep { $_->{pid} == $worker } $tallyd->children('worker') }, 'the old one has gone');

@many = map { feed('') } 1 .. 20;
my $began = time;
$tallyd->term;
is(scalar(grep { $_->ended } @many), 20, 'a drain ends all of them cleanly');
is($tallyd->wait_exit, 0, 'and is done');
cmp_ok(time - $began, '<', 10 * patience(), 'without waiting for them');

# ---- durable, where answers are not

$tallyd->set_config(sync => 'interval', sync_interval => '2s');
$tallyd->start_again;
use_daemon($tallyd);
$live = feed('');
$tallyd->event('alice', 1);
wait_until { $live->take_for(0.01) } 5;
$answer = $tallyd->event('alice', 1);
is($answer->{status}, 200, 'sync interval: answered');
is(lsns(feed("?follow=false&after=$answer->{json}{lsn}")->rest), '', 'its LSN is good before it is durable');
is(lsns($live->take(1)), $answer->{json}{lsn}, 'and it is shown when it is');
done_testing();
