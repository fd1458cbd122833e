#!/usr/bin/perl
# Tokens: who may do what over HTTP and Redis' protocol, by the lines of auth_file; that nothing is
# said of what there is to who may not see it; rotation, expiry and reloads; and who is served on a
# Unix socket.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Ctl qw(ctl ctl_json);
use Feed;
use POSIX qw(strftime);
use Redis;
use Tallyd qw(patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

my %secret = map { $_ => "secret-of-$_.0123456789~+/=" } qw(all reader writer admin shop other new-all);

sub line {
	my ($name, $scopes, @more) = @_;
	my $key = shift @more if @more && $more[0] =~ s/^as=//;
	return join(' ', $name, sha256_hex($secret{ $key || $name }), $scopes, @more) . "\n";
}

my $everyone = "# who may do what\n\n" . line('all', 'read,write,admin') . line('reader', 'read')
	. line('writer', 'write') . line('admin', 'admin')
	. line('shop', 'read,write,admin', 'prefix=shop/%C3%A4') . line('other', 'read,write,admin', 'prefix=other/');

my $dir = File::Temp::tempdir('tallyd-tokens-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $file = "$dir/tokens";

sub write_tokens {
	my ($text, $mode) = @_;
	unlink "$file.new";
	open my $out, '>', "$file.new" or die "$file.new: $!";
	print {$out} $text;
	close $out or die "$file.new: $!";
	chmod defined $mode ? $mode : 0600, "$file.new" or die "$file.new: $!";
	rename "$file.new", $file or die "$file: $!";
	return;
}

write_tokens($everyone);
my $tallyd = Tallyd->start(
	config => { auth_file => $file, access_log => "$dir/access", diagnostics => 'true', max_holds => 64 },
	listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'redis' }], ['unix:%DIR%/open', { allow_anonymous => 'true' }]],
);
my $connection = $tallyd->connection;

# The answer to METHOD PATH BODY from who has NAME's token (undef: nobody).
sub as {
	my ($name, $method, $path, $body, $headers) = @_;
	my $token = defined $name ? exists $secret{$name} ? $secret{$name} : $name : undef;
	return $tallyd->call($method, $path, $body, { defined $token ? (Authorization => "Bearer $token") : (), %{ $headers || {} } },
		connection => $connection);
}

sub reload {
	my ($ok) = @_;
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log($ok ? qr/reloaded: / : qr/reload failed/, 20, $mark), $ok ? 'reloaded' : 'the reload fails');
	$connection = $tallyd->connection;
	return substr $tallyd->log_text, $mark;
}

# What an answer tells besides its time.
sub told { my ($answer) = @_; return join ' ', $answer->{status}, $answer->{body}, $answer->{headers}{'www-authenticate'} || '' }

# ---- who nobody is

sub test_nobody {
	my $answer = as(undef, 'GET', '/accounts/a');
	is($answer->{status}, 401, 'without a token');
	is($answer->{json}{reason}, 'unauthorized', 'a reason');
	is($answer->{headers}{'www-authenticate'}, 'Bearer realm="tallyd"', 'and the challenge');
	my $wrong = as('x' x 40, 'GET', '/accounts/a');
	is(told($wrong), '401 {"status":"error","reason":"unauthorized","detail":"The token is not valid."} '
		. 'Bearer realm="tallyd", error="invalid_token"', 'with a wrong one');
	is(told(as('x' x 40, @$_)), told($wrong), "the same of $$_[0] $$_[1]")
		for ['GET', '/accounts/none'], ['GET', '/nowhere'], ['DELETE', '/events'], ['GET', '/accounts'], ['GET', '/holds/h'],
		['POST', '/events', '{"account":"a","amount":1}'], ['POST', '/events', 'garbage'], ['GET', '/feed'], ['GET', '/metrics'],
		['GET', '/', undef], ['GET', '/sleep?ms=1'], ['POST', '/echo', 'x'], ['PUT', '/accounts/a', '{}'];
	is(as(undef, 'GET', '/', undef, { Accept => 'application/json' })->{status}, 401, 'not what the service says of itself');
	my $page = as(undef, 'GET', '/', undef, { Accept => 'text/html' });
	like("$page->{status} $page->{headers}{'content-type'}", qr{^200 text/html}, 'but the page of the console, which holds no secret');
	is(as(undef, 'GET', '/healthz')->{status}, 200, 'and whether it is well: load balancers have no tokens');
	is(as(undef, 'OPTIONS', '/events')->{status}, 204, 'and OPTIONS');
	is(as('all', 'GET', '/accounts/a')->{status}, 404, 'a token: the account is not there');
	return;
}

sub test_credentials {
	my $status = sub {
		my ($value) = @_;
		return $tallyd->call('GET', '/accounts', undef, ref $value ? $value : { Authorization => $value }, connection => $connection)->{status};
	};
	is($status->("bEARER   $secret{reader}"), 200, 'the scheme in any case, spaces behind it');
	is($status->($_), 401, "not: $_")
		for $secret{reader}, "Bearer$secret{reader}", "Bearer\t$secret{reader}", "Bearer $secret{reader} x", "Bearer $secret{reader}x", 'Bearer', 'Bearer ',
		"Basic $secret{reader}", 'Bearer ' . substr($secret{reader}, 1), 'Bearer ' . 'a' x 257, 'Bearer ' . 'a' x 5000, 'Bearer ====',
		'Bearer ' . sha256_hex($secret{reader});
	is($status->([Authorization => "Bearer $secret{reader}", Authorization => "Bearer $secret{reader}"]), 401, 'nor twice');
	return;
}

# ---- scopes

my @reads = (['GET', '/accounts'], ['GET', '/accounts/a'], ['GET', '/accounts/a/events'], ['GET', '/accounts/a/holds'],
	['GET', '/holds/h'], ['GET', '/feed?follow=false&after=0'], ['GET', '/metrics'], ['GET', '/']);
my @writes = (['POST', '/events', { account => 'a', amount => 1 }], ['POST', '/transfers', { from => 'a', to => 'b', amount => 1 }],
	['POST', '/transactions', { legs => [{ account => 'a', amount => 1 }] }], ['POST', '/holds', { account => 'a', amount => 1, ttl => 60, id => 'h' }],
	['POST', '/holds/h/capture', {}], ['POST', '/holds/h/release', {}]);
my @governs = (['POST', '/accounts', { account => 'x' }], ['PUT', '/accounts/x', { floor => 0 }], ['DELETE', '/accounts/x']);

sub test_scopes {
	for my $set ([reader => \@reads, 'reads'], [writer => \@writes, 'writes'], [admin => \@governs, 'governs']) {
		my ($name, $mine, $what) = @$set;
		for my $other (\@reads, \@writes, \@governs) {
			for my $request (@$other) {
				my $answer = as($name, @$request);
				my $forbidden = $answer->{status} == 403 && $answer->{json}{reason} eq 'forbidden';
				$connection = $tallyd->connection if $$request[1] =~ /feed/ && !$forbidden;
				ok($other == $mine ? !$forbidden && $answer->{status} != 401 : $forbidden, "who $what and $$request[0] $$request[1]: $answer->{status}");
			}
		}
	}
	is(as('reader', @{ $writes[0] })->{headers}{'www-authenticate'}, 'Bearer realm="tallyd", error="insufficient_scope"', 'the challenge says why');
	is(as('reader', 'POST', '/echo', 'x')->{status}, 200, 'what is no one\'s secret is for any token');
	return;
}

# ---- a prefix

sub test_prefix {
	my $mine = 'shop%2F%C3%A4%2F1';
	is(as('other', 'POST', '/accounts', { account => 'other/1', floor => 0 })->{status}, 201, 'another\'s account');
	is(as('other', 'POST', '/events', { account => 'other/1', amount => 50, id => 'o-1' })->{status}, 200, 'with a balance');
	is(as('other', 'POST', '/holds', { account => 'other/1', amount => 5, ttl => 600, id => 'o-hold' })->{status}, 201, 'and a hold');
	is(as('shop', 'POST', '/events', { account => "shop/\x{e4}/1", amount => 7 })->{status}, 200, 'one\'s own account');
	is(as('shop', 'GET', "/accounts/$mine")->{json}{balance}, 7, 'is there');
	my $there = as('shop', 'GET', '/accounts/other%2F1');
	is($there->{status}, 403, 'another\'s is forbidden');
	is(told(as('shop', 'GET', '/accounts/other%2F2')), told($there), 'in the same words if it is not there');
	is(told(as('shop', 'GET', "/accounts/$_")), told($there), "likewise $_") for 'shop', 'shop%2Fa', 'SHOP%2F%C3%A4', 'other%2F1/events', 'other%2F1/holds',
		'none/events', 'none/holds', 'other%2F1?at=0';
	is(told(as('shop', @$_)), told($there), "nor $$_[0] $$_[1]")
		for ['PUT', '/accounts/other%2F1', { floor => 0 }], ['DELETE', '/accounts/other%2F1'], ['POST', '/accounts', { account => 'other/1' }],
		['POST', '/events', { account => 'other/1', amount => 1 }], ['POST', '/events', { account => 'other/1', amount => 50, id => 'o-1' }],
		['POST', '/transfers', { from => "shop/\x{e4}/1", to => 'other/1', amount => 1 }],
		['POST', '/transfers', { to => "shop/\x{e4}/1", from => 'other/1', amount => 1 }],
		['POST', '/transactions', { legs => [{ account => "shop/\x{e4}/1", amount => 1 }, { account => 'other/1', amount => -1 }] }],
		['POST', '/holds', { account => 'other/1', amount => 1, ttl => 60 }], ['POST', '/holds/o-hold/capture', { to => 'other/2' }],
		['POST', '/events?atomic=true', [{ account => "shop/\x{e4}/1", amount => 1 }, { account => 'other/1', amount => 1 }]],
		['GET', '/metrics'], ['GET', '/', undef];
	is(as('all', 'GET', '/accounts/other%2F1')->{json}{balance}, 50, 'and nothing has changed');

	my $none = as('shop', 'GET', '/holds/nobodys');
	is($none->{status}, 404, 'a hold that there is not');
	is(told(as('shop', 'GET', '/holds/o-hold')), told($none), 'and another\'s are told apart by nothing');
	$none = as('shop', 'POST', '/holds/nobodys/release', {});
	is(told(as('shop', 'POST', '/holds/o-hold/release', {})), told($none), 'when it is to be released');
	is(as('shop', 'POST', '/holds/o-hold/release', { id => 'steal' })->{status}, 404, 'with an id, too');
	is(as('other', 'POST', '/holds/o-hold/release', { id => 'o-release' })->{status}, 200, 'whose it is may');
	is(told(as('shop', 'POST', '/holds/o-hold/release', {})), told($none), 'one that is settled, likewise');
	is(told(as('shop', 'POST', '/holds/o-hold/release', { id => 'o-release' })), told($none), 'even by the id that it was settled with');
	is(as('other', 'POST', '/holds/o-hold/release', { id => 'o-release' })->{headers}{'idempotent-replayed'}, 'true', 'which tells its owner');

	# What is settled makes room at last: then only the id knows of it.
	my $redis = redis();
	$redis->ask('AUTH', $secret{other});
	for (my $number = 0; $number < 20_000 && as('other', 'GET', '/holds/o-hold')->{status} == 200; $number += 100) {
		$redis->send_commands(map { (['TALLY.HOLD', 'other/1', 1, 600, 'ID', "more-$_"], ['TALLY.RELEASE', "more-$_"]) } $number .. $number + 99);
		$redis->reply for 1 .. 200;
	}
	is(as('other', 'GET', '/holds/o-hold')->{status}, 404, 'one that is forgotten');
	is(told(as('shop', 'POST', '/holds/o-hold/release', { id => 'o-release' })), told($none), 'is told as little of by its id');
	is(as('other', 'POST', '/holds/o-hold/release', { id => 'o-release' })->{headers}{'idempotent-replayed'}, 'true', '... but to its owner');

	my $names = sub { my ($answer) = @_; return join ' ', sort map { $_->{account} } @{ $answer->{json}{accounts} || [] } };
	is($names->(as('shop', 'GET', '/accounts')), "shop/\x{e4}/1", 'a list shows one\'s own');
	is($names->(as('shop', 'GET', '/accounts?prefix=shop')), "shop/\x{e4}/1", 'also below a shorter prefix');
	is($names->(as('shop', 'GET', '/accounts?prefix=other')), '', 'nothing of others');
	is(as('shop', 'GET', '/accounts?prefix=other')->{json}{next}, undef, 'to the end');
	my $page = as('shop', 'GET', '/accounts?limit=1');
	ok(!$page->{json}{next} || $page->{json}{next} =~ /prefix=shop/, 'a page\'s link stays within');

	my $socket = $tallyd->raw_socket;
	my $body = join '', map { qq({"account":"$_","amount":1}\n) } "shop/\xc3\xa4/1", 'other/1', "shop/\xc3\xa4/2";
	Tallyd::send_all($socket, "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $secret{shop}\r\nContent-Type: application/x-ndjson\r\n"
		. 'Content-Length: ' . length($body) . "\r\n\r\n$body");
	my $answer = Tallyd::read_response($socket);
	like($answer->{body}, qr/^\{"status":"accepted".*\n\{"status":"error","reason":"forbidden".*\n\{"status":"accepted".*\n\z/, 'lines are judged one by one');
	my $array = as('shop', 'POST', '/events', [map { { account => $_, amount => 1 } } "shop/\x{e4}/1", 'other/1']);
	is(join(' ', map { $_->{status} } @{ $array->{json} }), 'accepted error', 'elements, too');
	is(as('all', 'GET', '/accounts/other%2F1')->{json}{balance}, 50, 'and still nothing has changed');
	return;
}

# What a statement of one's own account says of others'.
sub test_statement {
	my $own = "shop/\x{e4}/9";
	as('all', 'POST', '/accounts', { account => $_ }) for $own, 'other/9';
	as('all', 'POST', '/events', { account => $_, amount => 50 }) for $own, 'other/9';
	is(as('all', 'POST', '/holds', { account => 'other/9', amount => 5, ttl => 600, id => 'theirs-9' })->{status}, 201, 'another\'s hold');
	is(as('all', 'POST', '/holds', { account => $own, amount => 5, ttl => 600, id => 'own-9' })->{status}, 201, 'and one\'s own');
	is(as('all', 'POST', '/holds/theirs-9/capture', { to => $own })->{status}, 200, 'is captured for one\'s own account');
	is(as('all', 'POST', '/holds/own-9/capture', { to => 'other/9' })->{status}, 200, 'the other way round');
	is(as('all', 'POST', '/transfers', { from => 'other/9', to => $own, amount => 3 })->{status}, 200, 'and a transfer');
	my $path = '/accounts/shop%2F%C3%A4%2F9/events?limit=3';
	my $said = sub { return join ' ', map { join ':', $_->{type}, $_->{counterparty} // '-', $_->{hold} // '-' } @_ };
	is($said->(@{ as('all', 'GET', $path)->{json}{events} }), 'transfer:other/9:- capture:other/9:own-9 capture:other/9:theirs-9', 'who may see all sees all');
	is($said->(@{ as('shop', 'GET', $path)->{json}{events} }), 'transfer:-:- capture:-:own-9 capture:-:-', 'others do not stand in a statement');
	my $redis = redis();
	$redis->ask('AUTH', $secret{shop});
	utf8::encode(my $name = $own);
	is($said->(map { +{ @$_ } } @{ $redis->ask('TALLY.STATEMENT', $name, 'LIMIT', 3) }), 'transfer:-:- capture:-:own-9 capture:-:-', '... nor in Redis\'');
	return;
}

# While nothing becomes durable, who asks for what is not there waits, whatever is kept from him.
sub test_time {
	as('other', 'POST', '/events', { account => 'other/time', amount => 5 });
	is(as('other', 'POST', '/holds', { account => 'other/time', amount => 1, ttl => 600, id => 'o-time' })->{status}, 201, 'a hold that is durable');
	my ($writer) = map { $_->{pid} } $tallyd->children('journal');
	kill 'STOP', $writer or die "kill: $!";
	my @waiting = map { $tallyd->raw_socket } 1 .. 3;
	my $send = sub {
		my ($socket, $request, $name, $body) = @_;
		Tallyd::send_all($socket, "$request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $secret{$name}\r\n"
			. (defined $body ? "Content-Type: application/json\r\nContent-Length: " . length($body) . "\r\n" : '') . "\r\n" . ($body // ''));
	};
	$send->($waiting[0], 'POST /events', 'other', '{"account":"other/time","amount":1}');
	wait_until { as('all', 'GET', '/metrics')->{body} =~ /^tallyd_connections\{[^}]*state="waiting"\} [1-9]/m };
	$send->($waiting[1], 'GET /holds/nobodys', 'shop');
	$send->($waiting[2], 'GET /holds/o-time', 'shop');
	my $bits = '';
	vec($bits, fileno $_, 1) = 1 for @waiting;
	is(scalar(select $bits, undef, undef, 0.3 * patience()), 0, 'another\'s hold takes as long as one that is not there');
	kill 'CONT', $writer or die "kill: $!";
	is(join(' ', map { Tallyd::read_response($_)->{status} } @waiting), '200 404 404', 'and then is told as it');
	return;
}

sub test_feed {
	is(as('all', 'POST', '/transfers', { from => 'other/1', to => "shop/\x{e4}/1", amount => 3, note => 'both' })->{status}, 200, 'a transfer between the two');
	my $events = sub {
		my ($name, $query) = @_;
		my $feed = Feed->open($tallyd, "?after=0&follow=false&format=ndjson$query", { Authorization => "Bearer $secret{$name}" });
		$feed->ended;
		return @{ $feed->{events} };
	};
	my @events = $events->('shop', '');
	ok(@events > 2, 'a feed');
	is(join(' ', grep { !/^shop\/\x{e4}/ } map { map { $_->{account} } @{ $_->{legs} } } @events), '', 'shows nothing of others');
	my ($both) = grep { ($_->{note} || '') eq 'both' } @events;
	is(scalar @{ $both->{legs} }, 1, 'of a transfer only one\'s own side');
	test_statement();
	is($events->('shop', '&account=other'), 0, 'nor when asked for them');
	is(scalar(grep { ($_->{note} || '') eq 'both' && @{ $_->{legs} } == 2 } $events->('all', '')), 1, 'all is shown to who has no prefix');
	return;
}

# ---- Redis' protocol

sub redis { return Redis->new($tallyd->address(1)) }

sub error_of { my ($reply) = @_; return ref $reply eq 'HASH' ? $reply->{error} || '' : '' }

sub test_redis {
	my $redis = redis();
	my $noauth = 'NOAUTH Authentication required.';
	is(error_of($redis->ask(@$_)), $noauth, "$$_[0] needs a token")
		for ['PING'], ['GET', 'a'], ['INCR', 'a'], ['INFO'], ['MULTI'], ['SCAN', 0], ['TALLY.EVENT', 'a', 1], ['CLIENT', 'ID'], ['WATCH', 'a'];
	like(error_of($redis->ask('HELLO', 3)), qr/^NOAUTH HELLO must be called with the client already authenticated/, 'HELLO');
	my $wrong = 'WRONGPASS invalid username-password pair or user is disabled.';
	is(error_of($redis->ask('AUTH', @$_)), $wrong, "AUTH @$_") for ['x'], ['reader', 'x'], ['writer', $secret{reader}], ['default', 'x'], [sha256_hex($secret{reader})];
	is_deeply($redis->ask('AUTH', $secret{reader}), { simple => 'OK' }, 'AUTH TOKEN');
	is_deeply($redis->ask('AUTH', 'reader', $secret{reader}), { simple => 'OK' }, 'AUTH NAME TOKEN');
	is_deeply($redis->ask('PING'), { simple => 'PONG' }, 'then it speaks');
	is(error_of($redis->ask('AUTH', 'x')), $wrong, 'a wrong one changes nothing');
	is_deeply($redis->ask('PING'), { simple => 'PONG' }, 'of who one is');
	like(error_of($redis->ask(@$_)), qr/^NOPERM this user has no permissions to run the '\L$$_[0]\E' command$/, "who reads may not $$_[0]")
		for ['INCR', 'a'], ['SET', 'a', 1], ['DEL', 'a'], ['TALLY.EVENT', 'a', 1], ['TALLY.CAPTURE', 'h'], ['GETSET', 'a', 1];
	ok(!error_of($redis->ask(@$_)), "but $$_[0]") for ['GET', 'a'], ['DBSIZE'], ['INFO'], ['SCAN', 0], ['MGET', 'a', 'b'], ['TALLY.STATEMENT', 'a'];

	$redis = redis();
	is(ref $redis->ask('HELLO', 3, 'AUTH', 'default', $secret{shop}), 'HASH', 'HELLO 3 AUTH');
	my $keys = 'NOPERM this user has no permissions to access one of the keys used as arguments';
	is(error_of($redis->ask(@$_)), $keys, "@$_[0, 1] of another")
		for ['GET', 'other/1'], ['MGET', "shop/\xc3\xa4/1", 'other/1'], ['INCR', 'other/1'], ['INCRBY', 'none', 5], ['SET', 'other/1', 5], ['DEL', 'other/1'],
		['EXISTS', 'other/1'], ['WATCH', 'other/1'], ['TALLY.EVENT', 'other/1', 1], ['TALLY.TRANSFER', "shop/\xc3\xa4/1", 'other/1', 1],
		['TALLY.HOLD', 'other/1', 1, 60], ['TALLY.STATEMENT', 'other/1'];
	like(error_of($redis->ask('DBSIZE')), qr/^NOPERM/, 'how many there are is no business of a prefix');
	ok(!error_of($redis->ask('TALLY.HOLD', "shop/\xc3\xa4/1", 1, 60, 'ID', 'rh')), 'a hold');
	is(error_of($redis->ask('TALLY.CAPTURE', 'rh', 'TO', 'other/1')), $keys, 'is not captured for another');
	ok(!error_of($redis->ask('TALLY.RELEASE', 'rh')), 'but released');
	as('other', 'POST', '/holds', { account => 'other/1', amount => 5, ttl => 600, id => 'r-other' });
	like(error_of($redis->ask('TALLY.RELEASE', 'r-other')), qr/^UNKNOWN_HOLD/, 'another\'s hold is none');
	for my $hold ('r-other', 'r-nobodys') {
		like(error_of($redis->ask('TALLY.RELEASE', $hold, 'ID', "id-$hold")), qr/^UNKNOWN_HOLD/, "$hold with an id");
		like(error_of($redis->ask('TALLY.EVENT', "shop/\xc3\xa4/1", 1, 'ID', "id-$hold")), qr/^ID_REUSED/, '... which is remembered');
	}
	my $scan = $redis->ask('SCAN', 0, 'COUNT', 1000);
	is(join(' ', grep { !m{^shop/\xc3\xa4} } @{ $scan->[1] }), '', 'SCAN shows one\'s own');
	ok(@{ $scan->[1] } > 0, '... which are there');
	is(scalar @{ $redis->ask('SCAN', 0, 'MATCH', 'other*')->[1] }, 0, 'and nothing that matches of others');
	is_deeply($redis->ask('MULTI'), { simple => 'OK' }, 'MULTI');
	is(error_of($redis->ask('INCR', 'other/1')), $keys, 'refuses at once');
	like(error_of($redis->ask('EXEC')), qr/^EXECABORT/, 'and the transaction');
	is(as('all', 'GET', '/accounts/other%2F1')->{json}{held}, 5, 'nothing has changed');
	ok(!error_of($redis->ask('INCR', "shop/\xc3\xa4/1")), 'one\'s own may');
	# Pipelined increments are groups: who has changed in between must not take those before with him.
	$redis->send_commands(['AUTH', $secret{writer}], ['INCR', 'p'], ['INCR', 'p'], ['AUTH', $secret{reader}], ['INCR', 'p'], ['GET', 'p']);
	my @replies = map { $redis->reply } 1 .. 6;
	is(join(' ', map { ref $_ ? $_->{int} || ($_->{error} ? 'no' : 'ok') : $_ } @replies), 'ok 1 2 ok no 2', 'a pipeline in which the speaker changes');
	return;
}

# ---- the access log, and what is counted

sub test_log {
	as('reader', 'GET', '/accounts/logged');
	as('writer', 'GET', '/accounts/logged');
	as(undef, 'GET', '/accounts/logged');
	ok(wait_until(sub { my @lines = slurp("$dir/access") =~ /^.*logged.*$/mg; @lines == 3 }), 'three lines');
	my @users = map { (split)[2] } slurp("$dir/access") =~ /^.*logged.*$/mg;
	is("@users", 'reader writer -', 'name who has asked, also whom it was denied');
	my $all = slurp("$dir/access") . $tallyd->log_text;
	is(scalar(grep { index($all, $_) >= 0 } values %secret), 0, 'and no log holds a token');
	like($tallyd->log_text, qr/refused: clients without a valid token/, 'the log says that there were some');
	my $metrics = as('reader', 'GET', '/metrics')->{body};
	like($metrics, qr/^tallyd_request_errors_total\{reason="unauthorized"\} [1-9]/m, 'they are counted');
	like($metrics, qr/^tallyd_request_errors_total\{reason="forbidden"\} [1-9]/m, 'both kinds');
	return;
}

# ---- bodies that are not waited for

sub test_early {
	my $socket = $tallyd->raw_socket;
	Tallyd::send_all($socket, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n");
	my $answer = Tallyd::read_response($socket);
	is($answer->{status}, 401, 'who has no token is not asked for a body');
	is_deeply($answer->{interim}, [], 'nor told to go on');
	is($answer->{headers}{connection}, 'close', 'and the connection ends');
	$socket = $tallyd->raw_socket;
	Tallyd::send_all($socket, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n");
	is(Tallyd::read_response($socket)->{status}, 401, 'nor for lines');
	# Pipelined: each is judged by its own token.
	$socket = $tallyd->raw_socket;
	my $event = sub {
		my ($name) = @_;
		my $who = defined $name ? "Authorization: Bearer $secret{$name}\r\n" : '';
		return "POST /events HTTP/1.1\r\nHost: x\r\n${who}Content-Length: 28\r\n\r\n" . '{"account":"pip","amount":1}';
	};
	Tallyd::send_all($socket, join '', map { $event->($_) } 'writer', 'writer', undef, 'writer', 'reader', 'all', 'shop');
	is(join(' ', map { Tallyd::read_response($socket)->{status} } 1 .. 7), '200 200 401 200 403 200 403', 'a pipeline of several people');
	is(as('all', 'GET', '/accounts/pip')->{json}{balance}, 4, 'of whom those who may have changed something');
	return;
}

# ---- rotation, expiry, reload

# Connections of tokens that a reload takes away, or not; returns what looks at them after it.
sub open_with_tokens {
	as('all', 'POST', '/events', { account => 'open', amount => 1 });
	my %redis = map { $_ => redis() } qw(reader writer all);
	is_deeply($redis{$_}->ask('AUTH', $secret{$_}), { simple => 'OK' }, "$_ is connected") for sort keys %redis;
	my $feed = Feed->open($tallyd, '?format=ndjson&account=open', { Authorization => "Bearer $secret{reader}" });
	my $lines = $tallyd->raw_socket;
	my $line = sub { my $text = qq({"account":"open","amount":1}\n); return sprintf "%x\r\n%s\r\n", length $text, $text };
	Tallyd::send_all($lines, "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $secret{writer}\r\n"
		. "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n" . $line->());
	ok(wait_until(sub { (as('all', 'GET', '/accounts/open')->{json}{balance} || 0) == 2 }), 'lines are taken');
	my $kept = $tallyd->raw_socket;
	my $get = "GET /accounts/open HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $secret{reader}\r\n\r\n";
	Tallyd::send_all($kept, $get);
	is(Tallyd::read_response($kept)->{status}, 200, 'a connection that is kept');
	return sub {
		is(error_of($redis{reader}->ask('GET', 'open')), 'NOAUTH Authentication required.', 'who is connected by it may nothing more');
		is(error_of($redis{writer}->ask('INCR', 'open')), 'NOAUTH Authentication required.', '... nor by one that permits something else now');
		is($redis{all}->ask('GET', 'open'), 2, '... others may');
		Tallyd::send_all($kept, $get);
		is(Tallyd::read_response($kept)->{status}, 401, '... nor over HTTP');
		Tallyd::send_all($lines, $line->());
		like(Tallyd::read_response($lines)->{body}, qr/"accepted".*\n.*"unauthorized".*\n\z/, '... nor line by line');
		as('all', 'POST', '/events', { account => 'open', amount => 7 });
		$feed->ended;
		is(join(' ', map { $_->{legs} ? $_->{legs}[0]{balance} : $_->{reason} // '' } @{ $feed->{events} }) =~ /9/ ? 'seen' : '', '', 'and a feed shows no more');
		is(as('all', 'GET', '/accounts/open')->{json}{balance}, 9, 'nothing else was done');
	};
}

sub test_rotation {
	my $soon = strftime '%Y-%m-%dT%H:%M:%SZ', gmtime time + 3;
	write_tokens($everyone . line('all', 'read,write,admin', 'as=new-all') . 'late ' . sha256_hex('late') . " read expires=$soon\n"
		. 'past ' . sha256_hex('past') . " read expires=2020-01-01T00:00:00Z\n");
	my $feed = Feed->open($tallyd, '?format=ndjson', { Authorization => "Bearer $secret{reader}" });
	my ($kept, $old) = ($tallyd->raw_socket, redis());
	my $get = sub { Tallyd::send_all($kept, "GET /accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $secret{$_[0]}\r\n\r\n"); return Tallyd::read_response($kept)->{status} };
	is($get->('new-all'), 401, 'a token that is not there yet');
	is_deeply($old->ask('AUTH', $secret{all}), { simple => 'OK' }, 'one that is');
	reload(1);
	is($get->('new-all'), 200, 'who is connected may change to the new token');
	is_deeply($old->ask('AUTH', $secret{'new-all'}), { simple => 'OK' }, '... over Redis\' protocol, too');
	is(as($_, 'GET', '/accounts')->{status}, 200, "two tokens of one name: $_") for 'all', 'new-all';
	is(as('past', 'GET', '/accounts')->{status}, 401, 'one that is over');
	my $lines = Feed->open($tallyd, '?format=ndjson', { Authorization => 'Bearer late' });
	my $redis = redis();
	is($lines->{head}{status}, 200, 'one that is about to be serves a feed');
	is_deeply($redis->ask('AUTH', 'late'), { simple => 'OK' }, 'and a connection');
	ok(wait_until(sub { as('late', 'GET', '/accounts')->{status} == 401 }, 10), 'until it is');
	is(error_of($redis->ask('GET', 'a')), 'NOAUTH Authentication required.', 'which ends what a connection may');
	$lines->ended;
	is(($lines->{named}[0] ? $lines->{named}[0][1] : $lines->{events}[-1])->{reason}, 'unauthorized', 'and a feed, with a word');

	my $check_gone = open_with_tokens();
	# What is said by a token that permits less than it did is no longer said either.
	write_tokens($everyone =~ s/^reader.*\n//mr =~ s/^(writer .*)\n/$1 prefix=writers\/\n/mr);
	reload(1);
	is(as('reader', 'GET', '/accounts')->{status}, 401, 'one that was taken out is none after a reload');
	is(as('all', 'GET', '/accounts')->{status}, 200, 'others stay');
	$check_gone->();

	for my $bad (['mode 0640', $everyone, 0640, qr/has mode 0640: others may read or write it; chmod 0600/],
		['mode 0602', $everyone, 0602, qr/has mode 0602/],
		['a line that says nothing', "x\n", 0600, qr/:1: its second word is a SHA-256/],
		['a third of a name', $everyone . line('all', 'read', 'as=new-all') . 'all ' . '0' x 64 . " read\n", 0600, qr/this name has two lines already/]) {
		my ($what, $text, $mode, $pattern) = @$bad;
		write_tokens($text, $mode);
		like(reload(0), $pattern, "$what: nothing changes");
		is(as('all', 'GET', '/accounts')->{status}, 200, '... and who could, can');
	}
	unlink $file;
	like(reload(0), qr/No such file or directory/, 'a file that is gone');
	write_tokens($everyone);
	reload(1);
	# -t reads it, too.
	chmod 0644, $file;
	my $said = `$tallyd->{binary} -t -c '@{[ $tallyd->config_file ]}' 2>&1`;
	is($? >> 8, 2, 'tallyd -t');
	like($said, qr/chmod 0600/, 'says what is wrong');
	chmod 0600, $file;
	return;
}

# ---- tallyctl token

sub test_tallyctl {
	my ($status, $told) = ctl_json('-c', $tallyd->config_file, 'token', 'add', 'billing', '-s', 'write', '-p', "bill/\xc3\xa4 ", '-e', '1d');
	is($status, 0, 'tallyctl token add');
	like($told->{token}, qr/^tally_[A-Za-z0-9_-]{43}$/, 'makes one of 256 bits');
	my $line = join ' ', sha256_hex($told->{token}), 'write', 'prefix=bill/%c3%a4%20';
	like(slurp($file), qr/^billing \Q$line\E expires=\S+\n\z/m, 'keeps its SHA-256 behind the others');
	is((stat $file)[2] & 07777, 0600, 'in a file for its owner alone');
	unlike(slurp($file), qr/\Q$told->{token}\E/, 'and not itself');
	like(slurp($file), qr/\A# who may do what\n/, 'what stood there stays');
	reload(1);
	is(as($told->{token}, 'POST', '/events', { account => "bill/\x{e4} 1", amount => 1 })->{status}, 200, 'it counts after a reload');
	is(as($told->{token}, 'POST', '/events', { account => 'bill', amount => 1 })->{status}, 403, 'for its prefix');
	my (undef, $second) = ctl_json('-c', $tallyd->config_file, 'token', 'add', 'billing');
	isnt($second->{token}, $told->{token}, 'a second of the name');
	my ($full, undef, $said) = ctl('-c', $tallyd->config_file, 'token', 'add', 'billing');
	is($full, 1, 'no third');
	like($said, qr/tallyctl token remove --older billing/, 'with what to do');
	my (undef, $list) = ctl_json('-c', $tallyd->config_file, 'token', 'list');
	is(join(' ', map { $_->{name} } grep { $_->{name} eq 'billing' } @$list), 'billing billing', 'tallyctl token list');
	is((ctl('-c', $tallyd->config_file, 'token', 'remove', '--older', 'billing'))[0], 0, 'the older goes');
	unlike(slurp($file), qr/^billing .*prefix/m, '... which it was');
	like(slurp($file), qr/^billing .* read,write\n/m, '... and the newer stays');
	is((ctl('-c', $tallyd->config_file, 'token', 'remove', 'billing'))[0], 0, 'all of a name go');
	is(slurp($file), $everyone, 'and the file is as it was');
	is((ctl('-c', $tallyd->config_file, 'token', 'remove', 'billing'))[0], 1, 'there is none left');
	my ($printed, $out) = ctl('token', 'add', '--print', 'x');
	is($printed, 0, '--print');
	my ($token, $own) = split /\n/, $out;
	is($own, join(' ', 'x', sha256_hex($token), 'read,write'), 'prints token and line, and changes nothing');
	is((ctl('token', 'add', '-f', "$dir/new", @$_))[0], 2, "not: @$_") for ['a b'], ['x', '-s', 'reads'], ['x', '-s', 'read,read'], ['x', '-e', '0d'],
		['x', '-e', '2020-01-01T00:00:00Z'], ['x', '-p', "a\tb"];
	ok(!-e "$dir/new", 'which makes no file');
	SKIP: {
		skip 'there is no /dev/full', 3 unless -e '/dev/full';
		my $complaint = `'@{[Ctl::tallyctl()]}' token add -f '$dir/new' lost 2>&1 >/dev/full`;
		is($? >> 8, 1, 'a token that nobody gets');
		like($complaint, qr/^tallyctl: standard output: cannot write: No space left.*; no token was added$/m, '... is told');
		ok(!-e "$dir/new", '... and is none');
	}
	# In the way of the file that would take its place.
	mkdir "$dir/new.new" or die $!;
	my ($void, $lost, $why) = ctl('token', 'add', '-f', "$dir/new", 'void');
	is($void, 1, 'one that the file does not get');
	like($lost, qr/^tally_[-\w]{43}$/, '... was printed by then');
	is($why, "tallyctl: $dir/new.new: File exists; the token that was printed is void\n", '... and is void, as is said');
	rmdir "$dir/new.new" or die $!;
	is((ctl('token', 'add', '-f', "$dir/new", 'x'))[0], 0, 'a new file');
	is((stat "$dir/new")[2] & 07777, 0600, 'is its owner\'s');
	symlink "$dir/new", "$dir/link" or die $!;
	is((ctl('token', 'add', '-f', "$dir/link", 'by-link'))[0], 0, 'by a link');
	ok(-l "$dir/link" && slurp("$dir/new") =~ /^by-link /m, '... what it leads to is changed');
	# Many at once lose nothing.
	my $parent = $$;
	my @makers = map {
		my $number = $_;
		my $pid = fork;
		if ($pid == 0) {
			getppid == $parent or POSIX::_exit(1);
			exec Ctl::tallyctl(), 'token', 'add', '-f', "$dir/new", "maker-$number" or POSIX::_exit(1) if open STDOUT, '>', '/dev/null' and open STDERR, '>', '/dev/null';
		}
		$pid;
	} 1 .. 12;
	waitpid $_, 0 for @makers;
	is(scalar(() = slurp("$dir/new") =~ /^maker-/mg), 12, 'twelve at once');

	my $exported = "$dir/lines";
	open my $lines, '>', $exported or die $!;
	print {$lines} qq({"account":"imported","amount":5,"id":"imported-1"}\n);
	close $lines;
	my $url = $tallyd->url;
	isnt((ctl('import', '-u', $url, $exported))[0], 0, 'an import without a token fails');
	open my $keep, '>', "$dir/token" or die $!;
	print {$keep} "$secret{all}\n";
	close $keep;
	is((ctl('import', '-u', $url, '-t', "$dir/token", $exported))[0], 0, 'and with one it does not');
	is(as('all', 'GET', '/accounts/imported')->{json}{balance}, 5, '... but brings it in');
	open $keep, '>', "$dir/token" or die $!;
	print {$keep} "$secret{other}\n";
	close $keep;
	for my $count (64, 65) {
		open $lines, '>', $exported or die $!;
		print {$lines} qq({"account":"other/many","amount":1,"id":"many-$count-$_"}\n) for 1 .. $count;
		close $lines;
		my ($status, $out, $err) = ctl('import', '-u', $url, '-t', "$dir/token", $exported);
		is($status, 0, "one with a prefix brings $count lines in");
		like($err, $count > 64 ? qr/how many ids the daemon remembers cannot be seen/ : qr/^\z/, '... and says what it may not see');
	}
	return;
}

sub test_link {
	symlink 'later', "$dir/dangling" or die $!;
	is((ctl('token', 'add', '-f', "$dir/dangling", 'linked'))[0], 0, 'a token for a file that a link leads to, which is not there yet');
	ok(-l "$dir/dangling" && -e "$dir/later", '... makes that file, and the link stays');
	return;
}

# ---- Unix sockets

sub test_unix {
	my $path = $tallyd->dir . '/open';
	my $status = sub {
		my ($uid, $gid, @groups) = @_;
		my @command = ('setpriv', "--reuid=$uid", "--regid=$gid", @groups ? '--groups=' . join ',', @groups : '--clear-groups',
			'curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '--unix-socket', $path, 'http://x/accounts');
		my $text = qx(@command);
		return $text;
	};
	is($tallyd->call('GET', '/accounts', undef, undef, listener => 2)->{status}, 200, 'a listener that asks nobody, beside those that do');
	SKIP: {
		skip 'only root can become somebody else', 12 unless $> == 0;
		chmod 0755, $tallyd->dir, $dir;
		my $set = sub {
			my (%keys) = @_;
			my @listen = ([$tallyd->address(0), {}], [$tallyd->address(1), { protocol => 'redis' }],
				['unix:%DIR%/open', { allow_anonymous => 'true', mode => '0777', %keys }]);
			$tallyd->set_listen(@listen);
			reload(1);
		};
		$set->(allow_users => '12345 nobody');
		is($status->(12345, 1), 200, 'a number that is named');
		is($status->(65534, 1), 200, 'a name');
		is($status->(12346, 12345), '000', 'another is told nothing');
		$set->(allow_groups => '777');
		is($status->(12345, 1), '000', 'after a reload, who was');
		is($status->(12345, 777), 200, 'a group');
		is($status->(12345, 1, 5, 777), 200, 'also one of several');
		$set->(allow_users => '12345', allow_groups => '777');
		is($status->(12345, 1), 200, 'either');
		is($status->(1, 777), 200, 'of both');
		is($status->(1, 1), '000', 'and nobody else');
		like(as('reader', 'GET', '/metrics')->{body}, qr/^tallyd_connections_turned_away_total [1-9]/m, 'which is counted');
		ok($tallyd->wait_log(qr/refused: users who are not served/), 'and logged');
		$set->();
		is($status->(1, 1), 200, 'everybody, where nobody is named');
	}
	return;
}

# ---- the configuration

sub test_configuration {
	my $try = sub {
		my ($text) = @_;
		open my $out, '>', "$dir/try.conf" or die $!;
		print {$out} $text;
		close $out;
		my $said = `$tallyd->{binary} -t -c $dir/try.conf 2>&1`;
		return ($? >> 8) . " $said";
	};
	like($try->(qq(listen "*:1" { }\n)), qr/^2 .*open to other machines/, 'an open address without tokens');
	like($try->(qq(listen "*:1" { }\nauth_file = "$file"\n)), qr/^0 /, 'and with them');
	like($try->(qq(listen "*:1" { protocol = "redis" }\nauth_file = "$file"\n)), qr/^0 /, 'also of Redis\' protocol');
	like($try->(qq(listen "*:1" { protocol = "echo" }\nauth_file = "$file"\n)), qr/^2 .*open to other machines/, 'but not where nobody can show one');
	like($try->(qq(listen "127.0.0.1:1" { allow_users = "root" }\n)), qr/^2 .*:1: allow_users: .*is not a unix socket/, 'users of a TCP listener');
	like($try->(qq(listen "unix:/x" { allow_users = "no-such-user" }\n)), qr/^2 .*:1: allow_users: .*names no-such-user/, 'a user that there is not');
	like($try->(qq(listen "unix:/x" {\n allow_groups = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"\n}\n)), qr/^2 .*:2: allow_groups/, 'too many');
	like($try->(qq(auth_file = "$dir"\n)), qr/^2 .*not a regular file/, 'a folder');
	return;
}

# ---- the first tokens: who was let in without one is a stranger then

sub test_first {
	my $young = Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'redis' }],
		['127.0.0.1:0', { protocol => 'redis', allow_anonymous => 'true' }]]);
	my ($redis, $open) = map { Redis->new($young->address($_)) } 1, 2;
	is_deeply($redis->ask('INCR', 'a'), { int => 1 }, 'without tokens everybody may');
	is_deeply($open->ask('INCR', 'a'), { int => 2 }, '... also where tokens will not be asked for');
	my $get = sub { return "GET /accounts/a HTTP/1.1\r\nHost: x\r\n@_\r\n" };
	my ($kept, $known) = map { $young->raw_socket } 1, 2;
	for ([$kept, ''], [$known, "Authorization: Bearer $secret{all}\r\n"]) {
		Tallyd::send_all($_->[0], $get->($_->[1]));
		is(Tallyd::read_response($_->[0])->{status}, 200, '... over HTTP');
	}
	my $lines = $young->raw_socket;
	Tallyd::send_all($lines, "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
		. "Transfer-Encoding: chunked\r\n\r\n1f\r\n{\"account\":\"lines\",\"amount\":1}\n\r\n");
	ok(wait_until(sub { $redis->ask('GET', 'lines') // '' eq '1' }), '... line by line') or diag explain $redis->ask('GET', 'lines');
	write_tokens($everyone);
	$young->set_config(auth_file => $file);
	my $mark = $young->log_mark;
	$young->hup;
	ok($young->wait_log(qr/reloaded: /, 20, $mark), 'a file of tokens comes');
	is(error_of($redis->ask('GET', 'a')), 'NOAUTH Authentication required.', 'who has none may nothing more');
	is(error_of($redis->ask('AUTH', 'x' x 40)), 'WRONGPASS invalid username-password pair or user is disabled.', '... nor with a wrong one');
	is_deeply($redis->ask('AUTH', $secret{all}), { simple => 'OK' }, '... but says that he has one');
	is($redis->ask('GET', 'a'), 2, '... and goes on');
	is($open->ask('GET', 'a'), 2, 'and who needs none goes on');
	Tallyd::send_all($kept, $get->(''));
	is(Tallyd::read_response($kept)->{status}, 401, 'the same over HTTP: none');
	Tallyd::send_all($known, $get->("Authorization: Bearer $secret{all}\r\n"));
	is(Tallyd::read_response($known)->{status}, 200, '... one that is good now');
	Tallyd::send_all($lines, "1f\r\n{\"account\":\"lines\",\"amount\":1}\n\r\n");
	like(Tallyd::read_response($lines)->{body}, qr/"accepted".*\n.*"unauthorized".*\n\z/, '... and line by line');
	is($young->stop, 0, 'drains');
	return;
}

# ---- a worker that has no descriptor to take them by

sub test_scarce {
	write_tokens($everyone);
	my $scarce = Tallyd->start(config => { auth_file => $file, workers => 1 }, listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'redis' }]],
		wrapper => ['sh', '-c', 'ulimit -n 200; exec "$0" "$@"']);
	my %redis = map { $_ => Redis->new($scarce->address(1)) } 'reader', 'all';
	is_deeply($redis{$_}->ask('AUTH', $secret{$_}), { simple => 'OK' }, "$_ is connected") for sort keys %redis;
	my $mark = $scarce->log_mark;
	my @crowd = map { $scarce->raw_socket(1) } 1 .. 300;
	my ($worker) = $scarce->children('worker');
	ok(wait_until(sub { scalar(() = glob "/proc/$worker->{pid}/fd/*") >= 199 }), "then there is no descriptor left") or diag scalar(() = glob "/proc/$worker->{pid}/fd/*");
	write_tokens($everyone =~ s/^reader.*\n//mr);
	$scarce->hup;
	ok($scarce->wait_log(qr/reloaded: /, 20, $mark), 'one token is taken away');
	ok($scarce->wait_log(qr/tokens that there are now cannot be/, 20, $mark), '... which cannot be said in time');
	is(error_of(eval { $redis{reader}->ask('INCR', 'open') } // { error => $@ }) =~ /^(?:NOAUTH .*|closed)$/ ? 'over' : 'goes on', 'over', '... so nothing is believed');
	@crowd = ();
	is($scarce->stop, 0, 'drains');
	return;
}

test_nobody();
test_credentials();
test_scopes();
test_prefix();
test_feed();
test_time();
test_redis();
test_log();
test_early();
test_rotation();
test_tallyctl();
test_link();
test_unix();
test_configuration();
test_first();
test_scarce();
is($tallyd->stop, 0, 'drains');
done_testing();
