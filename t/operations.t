#!/usr/bin/perl
# Accounts, events, transfers and transactions over HTTP: what is accepted, what is refused and how,
# that a refusal changes nothing, and the conditions that a request may make.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use JSON::PP ();
use Tallyd;
use Test::More;

my $tallyd = Tallyd->start(config => { max_accounts => 2000, cors_origin => 'http://' . 'h' x 248 });
use_daemon($tallyd);

# ---- accounts

sub test_accounts {
	my $made = gives(['POST', '/accounts', { account => 'a', floor => -10, ceiling => 100 }], 201,
		{ status => 'accepted', account => 'a', balance => 0, held => 0, floor => -10, ceiling => 100,
			frozen => 'none', version => 1 }, 'POST /accounts makes one');
	is($made->{headers}{etag}, '"1"', 'with its version as ETag');
	is($made->{headers}{location}, '/accounts/a', 'and where it is');
	gives(['GET', '/accounts/a'], 200, { account => 'a', floor => -10, ceiling => 100, available => 10 },
		'GET reads it');
	refused(['POST', '/accounts', { account => 'a' }], 409, 'account_exists', 'once');
	gives(['PUT', '/accounts/a', { floor => 0, frozen => 'debits' }], 200,
		{ floor => 0, ceiling => undef, frozen => 'debits', version => 2 },
		'PUT replaces the attributes, those left out too');
	gives(['PUT', '/accounts/p%2Fq', {}], 201, { account => 'p/q', floor => undef, version => 1 },
		'PUT makes one that is not there');
	gives(['PUT', '/accounts/empty', undef], 201, { account => 'empty' }, 'also without a body');
	gives(['PUT', '/accounts/caf%C3%A9', '{"account":"café"}'], 201, { version => 1 },
		'which may name the account again');
	refused(['PUT', '/accounts/a', { account => 'b' }], 400, 'account_differs', 'but no other');
	refused(['PUT', '/accounts/a', { floor => 2, ceiling => 1 }], 400, 'invalid_floor', 'a floor above the ceiling');
	refused(['PUT', '/accounts/a', { frozen => 'yes' }], 400, 'invalid_frozen', 'no such state');
	refused(['PUT', '/accounts/' . 'x' x 101, {}], 400, 'invalid_account', 'a name that is too long');
	refused(['POST', '/accounts', { floor => 0 }], 400, 'missing_account', 'an account without a name');
	gives(['DELETE', '/accounts/a'], 200, { account => 'a', deleted => JSON::PP::true }, 'DELETE');
	refused(['GET', '/accounts/a'], 404, 'unknown_account', 'it is gone');
	refused(['DELETE', '/accounts/a'], 404, 'unknown_account', 'once');
	gives(['POST', '/accounts', { account => 'a' }], 201, { version => 1 }, 'and may be made again');
	call(@{ event('a', 5) });
	refused(['DELETE', '/accounts/a'], 409, 'account_not_empty', 'not while there is a balance');
	call(@{ event('a', -5) });
	gives(['DELETE', '/accounts/a'], 200, { deleted => JSON::PP::true }, 'but without one');
	return;
}

# ---- limits

sub test_limits {
	call('POST', '/accounts', { account => 'l', floor => -50, ceiling => 100 });
	gives(event('l', 100), 200, { balance => 100 }, 'up to the ceiling');
	refused(event('l', 1), 422, 'ceiling_exceeded', 'not above it', { account => 'l', balance => 100, ceiling => 100 });
	gives(event('l', -150), 200, { balance => -50 }, 'down to the floor');
	refused(event('l', -1), 402, 'insufficient_funds', 'not below it',
		{ balance => -50, held => 0, available => 0, required => 1 });
	gives(event('l', '7'), 200, { balance => -43 }, 'amounts as strings');
	gives(event('l', 0), 200, { balance => -43, version => 4 }, 'nothing changes nothing');
	refused(event('nobody', 0), 404, 'unknown_account', 'and makes no account');
	refused(['GET', '/accounts/nobody'], 404, 'unknown_account', 'really');
	call('PUT', '/accounts/l', { floor => -50, ceiling => -60 + 5 });
	gives(['PUT', '/accounts/l', { floor => -100, ceiling => -60 }], 200, { ceiling => -60, balance => -43 },
		'a ceiling may be put below the balance');
	refused(event('l', 1), 422, 'ceiling_exceeded', 'which blocks what goes further out');
	gives(event('l', -10), 200, { balance => -53 }, 'and not what comes back');
	gives(['PUT', '/accounts/l', { floor => 0 }], 200, { floor => 0, balance => -53 },
		'a floor may be put above the balance');
	refused(event('l', -1), 402, 'insufficient_funds', 'which blocks what goes further down', { available => -53 });
	gives(event('l', 1), 200, { balance => -52 }, 'and not what comes up');
	gives(event('big', '9223372036854775807'), 200, { balance => '9223372036854775807' }, 'as far as int64 reaches');
	refused(event('big', 1), 422, 'overflow', 'and no further');
	return;
}

sub test_frozen {
	call('POST', '/accounts', { account => 'f' });
	call(@{ event('f', 10) });
	call('PUT', '/accounts/f', { frozen => 'debits' });
	refused(event('f', -1), 423, 'account_frozen', 'frozen for debits: none');
	gives(event('f', 1), 200, { balance => 11 }, 'credits are taken');
	refused(['POST', '/transfers', { from => 'f', to => 'g', amount => 1 }], 423, 'account_frozen',
		'a transfer from it is none', { account => 'f' });
	call('PUT', '/accounts/f', { frozen => 'all' });
	refused(event('f', 1), 423, 'account_frozen', 'frozen for all: no credit either');
	refused(['POST', '/transfers', { from => 'big', to => 'f', amount => 1 }], 423, 'account_frozen',
		'nor one by a transfer', { account => 'f', leg => 1 });
	call('PUT', '/accounts/f', { frozen => 'none' });
	gives(event('f', -11), 200, { balance => 0 }, 'until it is thawed');
	return;
}

# ---- several accounts

sub test_transfers {
	call('POST', '/accounts', { account => 'from', floor => 0 });
	call(@{ event('from', 100) });
	gives(['POST', '/transfers', { from => 'from', to => 'to', amount => 30 }], 200,
		{ status => 'accepted', amount => 30, from => { account => 'from', balance => 70, version => 3 },
			to => { account => 'to', balance => 30, version => 1 } }, 'a transfer, which makes who receives it');
	refused(['POST', '/transfers', { from => 'from', to => 'to', amount => 71 }], 402, 'insufficient_funds',
		'more than there is', { account => 'from', leg => 0, available => 70, required => 71 });
	is(balances(qw(from to)), '70 30', 'moves nothing');
	refused(['POST', '/transfers', { from => 'from', to => 'from', amount => 1 }], 422, 'same_account', 'to itself');
	refused(['POST', '/transfers', { from => 'from', to => 'to', amount => $_ }], 400, 'invalid_amount', "of $_")
		for 0, -1;
	refused(['POST', '/transfers', { from => 'from', amount => 1 }], 400, 'missing_to', 'to nobody');
	return;
}

sub test_transactions {
	my @legs = map { { account => "leg$_", amount => $_ <= 8 ? -1 : 1 } } 1 .. 16;
	my $answer = gives(['POST', '/transactions', { legs => \@legs, balanced => JSON::PP::true }], 200,
		{ status => 'accepted' }, 'sixteen legs');
	is(scalar @{ $answer->{json}{legs} }, 16, 'each answered');
	is($answer->{json}{legs}[15]{balance}, 1, 'with its balance');
	refused(['POST', '/transactions', { legs => [@legs, { account => 'leg17', amount => 0 }] }], 400, 'invalid_legs',
		'not seventeen');
	refused(['POST', '/transactions', { legs => [] }], 400, 'invalid_legs', 'not none');
	refused(['POST', '/transactions', { legs => [@legs[0, 1, 0]] }], 400, 'duplicate_account', 'each account once');
	refused(['POST', '/transactions', { legs => [@legs[0, 1]], balanced => JSON::PP::true }], 422, 'unbalanced',
		'balanced legs sum to zero');
	gives(['POST', '/transactions', { legs => [@legs[0, 1]] }], 200, {}, 'others need not');
	call('PUT', '/accounts/leg3', { floor => -1 });
	refused(['POST', '/transactions', { legs => [@legs[0 .. 15]] }], 402, 'insufficient_funds',
		'one leg is refused: all are', { leg => 2, account => 'leg3' });
	is(balances(qw(leg1 leg3 leg16)), '-2 -1 1', 'and nothing moved');
	return;
}

# ---- conditions

sub test_if_match {
	call('POST', '/accounts', { account => 'm' });
	call(@{ event('m', 5) });
	gives([@{ event('m', 1) }, { 'If-Match' => '"2"' }], 200, { version => 3 }, 'If-Match with the version');
	refused([@{ event('m', 1) }, { 'If-Match' => '"2"' }], 412, 'version_mismatch', 'with an older one', { version => 3 });
	refused([@{ event('m', 1) }, { 'If-Match' => 'W/"3"' }], 412, 'version_mismatch', 'a weak tag matches nothing');
	refused([@{ event('m', 1) }, { 'If-Match' => '"03"' }], 412, 'version_mismatch', 'nor one that is not ours');
	gives([@{ event('m', 1) }, { 'If-Match' => '*' }], 200, { version => 4 }, '* matches what is there');
	refused([@{ event('absent', 1) }, { 'If-Match' => '*' }], 412, 'version_mismatch', 'and not what is not');
	refused([@{ event('absent', 1) }, { 'If-Match' => '"1"' }], 412, 'version_mismatch', 'nor does a version', { version => 0 });
	refused(['GET', '/accounts/absent'], 404, 'unknown_account', 'nothing was made');
	refused([@{ event('m', 1) }, { 'If-Match' => $_ }], 400, 'invalid_if_match', "If-Match: $_ is malformed")
		for '3', '"3', '', '"3", "4"';
	refused(['POST', '/events', '{"account":"m","amount":1}', ['If-Match' => '"4"', 'If-Match' => '"4"']], 400,
		'invalid_if_match', 'one If-Match');
	gives(['PUT', '/accounts/m', {}, { 'If-Match' => '"4"' }], 200, { version => 5 }, 'PUT');
	refused(['PUT', '/accounts/m', {}, { 'If-Match' => '"4"' }], 412, 'version_mismatch', 'PUT of an older one');
	refused(['DELETE', '/accounts/m', undef, { 'If-Match' => '"4"' }], 412, 'version_mismatch', 'DELETE of an older one');
	refused(['POST', '/transfers', { from => 'm', to => 'n', amount => 1 }, { 'If-Match' => '"5"' }], 400,
		'unsupported_condition', 'a transfer changes two accounts');
	for (['POST', '/accounts', { account => 'unmade' }],
		['POST', '/transactions', { legs => [{ account => 'm', amount => 1 }] }],
		['POST', '/events?atomic=true', [{ account => 'm', amount => 1 }]], ['POST', '/events', []]) {
		like(refused([@$_, { 'If-Match' => '*' }], 400, 'unsupported_condition', "@$_[0, 1] with If-Match")->{json}{detail},
			qr/^If-Match is /, '... which is what it names');
	}
	refused([@{ event('m', 1) }, { 'If-None-Match' => '*' }], 400, 'unsupported_condition',
		'If-None-Match is not passed over');
	is($tallyd->balance('m'), 7, 'nothing else was applied');
	return;
}

sub test_if_none_match {
	my $version = call('GET', '/accounts/m')->{json}{version};
	for (["\"$version\"", 304], ["W/\"$version\"", 304], ['*', 304], ["\"x\", \"$version\"", 304],
		['"0"', 200], ['"' . $version, 200], ["x\"$version\"", 200], ["\"1\",\"${version}0\"", 200]) {
		my ($value, $status) = @$_;
		my $answer = call('GET', '/accounts/m', undef, { 'If-None-Match' => $value });
		is($answer->{status}, $status, "If-None-Match: $value: $status");
		is($answer->{headers}{etag}, "\"$version\"", 'with the ETag');
	}
	return;
}

# ---- what is not JSON, and what is not there

sub test_forms {
	for my $path (qw(/events /transfers /transactions /accounts /holds /holds/x/capture /holds/x/release)) {
		refused(['POST', $path, '{}', { 'Content-Type' => 'text/html' }], 415, 'unsupported_media_type', "POST $path: a type");
		refused(['POST', $path, '{', {}], 400, 'invalid_json', "POST $path: no JSON");
		refused(['POST', $path, '[]', {}], 400, 'not_an_object', "POST $path: no object") unless $path eq '/events';
		refused(['POST', $path, '{"x":1}', {}], 400, 'unknown_key', "POST $path: an unknown key");
	}
	my %allow = (
		'/accounts' => 'GET, HEAD, POST, OPTIONS', '/accounts/x' => 'GET, HEAD, PUT, DELETE, OPTIONS',
		'/accounts/x/events' => 'GET, HEAD, OPTIONS', '/accounts/x/holds' => 'GET, HEAD, OPTIONS',
		'/holds' => 'POST, OPTIONS', '/holds/x' => 'GET, HEAD, OPTIONS', '/holds/x/capture' => 'POST, OPTIONS',
		'/holds/x/release' => 'POST, OPTIONS', '/transfers' => 'POST, OPTIONS', '/transactions' => 'POST, OPTIONS',
		'/events' => 'POST, OPTIONS');
	for my $path (sort keys %allow) {
		is(refused(['PATCH', $path], 405, 'method_not_allowed', "PATCH $path")->{headers}{allow}, $allow{$path},
			'with Allow');
		my $options = call('OPTIONS', $path);
		is("$options->{status} $options->{headers}{allow}", "204 $allow{$path}", "OPTIONS $path");
	}
	refused(['GET', $_], 404, 'not_found', "$_ is nowhere")
		for qw(/accounts/x/y /accounts/x/events/y /holds/x/y /holds/x/capture/y /transfers/x /account);
	refused(['GET', '/accounts/'], 400, 'invalid_account', 'a name that is empty');
	refused(['GET', '/accounts//events'], 400, 'invalid_account', 'likewise');
	refused(['GET', '/holds/'], 400, 'invalid_hold', 'an id that is empty');
	refused(['GET', '/holds/a%20b'], 400, 'invalid_hold', 'an id with a space');
	is(call('HEAD', '/accounts/m')->{status}, 200, 'HEAD of an account');
	return;
}

sub test_problems {
	my %want = (Accept => 'application/problem+json');
	my $answer = call(@{ event('l', -1) }, \%want);
	is($answer->{headers}{'content-type'}, 'application/problem+json', 'RFC 9457 on request');
	is_deeply($answer->{json}, { type => 'about:blank', title => 'Payment Required', status => 402,
			reason => 'insufficient_funds', detail => $answer->{json}{detail}, account => 'l', balance => -52,
			held => 0, available => -52, required => 1 }, 'with the same members');
	is(call('GET', '/nowhere', undef, \%want)->{json}{title}, 'Not Found', 'of every refusal');
	is(call(@{ event('l', 1) }, \%want)->{headers}{'content-type'}, 'application/json', 'and of nothing else');
	is(call('GET', '/nowhere', undef, { Accept => $_ })->{headers}{'content-type'}, 'application/json', "not with $_")
		for '*/*', 'application/json', 'application/problem+json;q=0', 'application/json, application/problem+json;q=0.5';
	return;
}

# ---- the longest of everything

# Names, ids and notes of bytes that JSON and paths must escape, a browser's page, RFC 9457.
sub test_longest {
	my $origin = 'http://' . 'h' x 248;
	my @headers = ({ Origin => $origin }, { Origin => $origin, Accept => 'application/problem+json' });
	my @names = map { ('"' x 98) . $_ } 10 .. 25;
	my $id = sub { return ('"' x 126) . $_[0] };
	my $note = '"' x 256;
	my $amount = '-4611686018427387904';
	for my $h (0, 1) {
		my @some = map { "$_" } @names;
		my $answer = gives(['POST', '/transactions', { legs => [map { { account => $_, amount => $amount } } @some],
				id => $id->("t$h"), note => $note }, $headers[$h]], 200, {}, 'the longest transaction');
		is($answer->{headers}{'access-control-allow-origin'}, $origin, 'for a page');
	}
	my %deep = map { $_ => { account => $names[0], amount => '-9223372036854775808', id => $id->("e$_"), note => $note } } 0, 1;
	gives(['POST', '/events', $deep{$_}, $headers[$_]], 422, { reason => 'overflow' }, 'the longest event') for 0, 1;
	my $account = $names[1];
	(my $path = "/accounts/$account") =~ s/"/%22/g;
	call('PUT', $path, { floor => '-9223372036854775807', ceiling => '-9223372036854775806', id => $id->('p'), note => $note },
		$headers[0]);
	for my $h (@headers) {
		gives(['POST', '/events', { account => $account, amount => '-4611686018427387904' }, $h], 402,
			{ reason => 'insufficient_funds', required => '4611686018427387904' }, 'refused');
		gives(['POST', '/events', { account => $account, amount => '9223372036854775807' }, $h], 422,
			{ reason => 'ceiling_exceeded' }, 'both ways');
		gives(['GET', $path, undef, $h], 200, { account => $account, balance => '-9223372036854775808' }, 'read');
	}
	call(@{ event($names[2], 10) });
	for my $h (0, 1) {
		my $made = gives(['POST', '/accounts', { account => '"' x 100 . '', id => $id->("c$h"), note => $note }, $headers[$h]],
			$h ? 409 : 201, {}, 'the longest creation');
		my $hold = gives(['POST', '/holds', { account => $names[2], amount => 1, ttl => 2592000, id => $id->("h$h"), note => $note },
				$headers[$h]], 201, { hold => $id->("h$h") }, 'the longest hold');
		(my $at = $hold->{headers}{location} || '') =~ s/%22/"/g;
		is($at, '/holds/' . $id->("h$h"), 'and where it is');
		$at =~ s/"/%22/g;
		gives(['GET', $at, undef, $headers[$h]], 200, { state => 'open', account => $names[2] }, 'read');
		gives(['POST', "$at/capture", { amount => 0, to => $names[3], id => $id->("k$h"), note => $note }, $headers[$h]],
			200, { captured => 0 }, 'captured');
		gives(['POST', "$at/capture", { amount => 1 }, $headers[$h]], 409, { reason => 'hold_settled' }, 'settled');
	}
	for my $name (@names[0 .. 2]) {
		(my $statement = "/accounts/$name/events?limit=100") =~ s/"/%22/g;
		my ($count, $next) = (0, $statement);
		while (defined $next) {
			my $page = call('GET', $next, undef, $headers[0])->{json};
			$count += @{ $page->{events} };
			$next = $page->{next};
		}
		cmp_ok($count, '>=', 2, 'its statement');
	}
	my $list = gives(['GET', '/accounts?limit=100&prefix=%22', undef, $headers[0]], 200, { next => undef }, 'listed');
	is(scalar @{ $list->{json}{accounts} }, 17, 'all of them');
	return;
}

# ---- defaults of accounts that events make

sub test_defaults {
	$tallyd->set_config(default_floor => 0, default_ceiling => 10);
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded/, 20, $mark), 'other defaults');
	use_daemon($tallyd);
	refused(event('new', -1), 402, 'insufficient_funds', 'the floor holds from the first event on', { available => 0 });
	refused(['GET', '/accounts/new'], 404, 'unknown_account', 'which makes nothing if it is refused');
	refused(event('new', 11), 422, 'ceiling_exceeded', 'so does the ceiling');
	gives(event('new', 10), 200, { balance => 10 }, 'within them it is made');
	gives(['GET', '/accounts/new'], 200, { floor => 0, ceiling => 10 }, 'and has them');
	gives(['GET', '/accounts/m'], 200, { floor => undef, ceiling => undef }, 'others keep theirs');
	gives(['POST', '/accounts', { account => 'bare' }], 201, { floor => undef, ceiling => undef },
		'POST /accounts says all itself');
	$tallyd->set_config(auto_create => 'false');
	$mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded/, 20, $mark), 'auto_create = false');
	use_daemon($tallyd);
	refused(event('newer', 1), 404, 'unknown_account', 'an event makes no account');
	refused(['POST', '/transfers', { from => 'm', to => 'newer', amount => 1 }], 404, 'unknown_account',
		'nor does a transfer', { leg => 1, account => 'newer' });
	is($tallyd->stop, 0, 'stopped');
	$tallyd->set_config(default_floor => 'none', default_ceiling => 'none');
	$tallyd->start_again;
	use_daemon($tallyd);
	gives(['GET', '/accounts/new'], 200, { floor => 0, ceiling => 10 }, 'limits survive a restart with other defaults');
	return;
}

test_accounts();
test_limits();
test_frozen();
test_transfers();
test_transactions();
test_if_match();
test_if_none_match();
test_forms();
test_problems();
test_longest();
test_defaults();
done_testing();
