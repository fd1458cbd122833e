#!/usr/bin/perl
# Holds over HTTP: reserve, settle once, let go, run out, also while nobody serves.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Tallyd qw(patience wait_until);
use Test::More;
use Time::HiRes qw(time);

my $tallyd = Tallyd->start(config => { max_accounts => 2000, max_holds => 64 });
use_daemon($tallyd);

sub place { my ($account, $amount, %more) = @_; return ['POST', '/holds', { account => $account, amount => $amount, ttl => 600, %more }] }
sub capture { my ($id, %body) = @_; return ['POST', "/holds/$id/capture", \%body] }
sub release { return ['POST', "/holds/$_[0]/release", $_[1]] }

# "balance held available"
sub state_of {
	my $account = call('GET', "/accounts/$_[0]")->{json};
	return join ' ', map { defined $account->{$_} ? $account->{$_} : '-' } qw(balance held available);
}

sub account {
	my ($name, $balance, %attributes) = @_;
	call('POST', '/accounts', { account => $name, floor => 0, %attributes });
	call(@{ event($name, $balance) }) if $balance;
	return;
}

sub test_place {
	account('a', 100);
	my $answer = gives(place('a', 60, id => 'h1', note => 'room 7'), 201,
		{ status => 'accepted', hold => 'h1', state => 'open', account => 'a', amount => 60, balance => 100, held => 60 },
		'POST /holds reserves');
	is($answer->{headers}{location}, '/holds/h1', 'and says where it is');
	is(state_of('a'), '100 60 40', 'of what is available');
	refused(event('a', -41), 402, 'insufficient_funds', 'which an event may not take',
		{ balance => 100, held => 60, available => 40, required => 41 });
	refused(place('a', 41), 402, 'insufficient_funds', 'nor another hold', { available => 40 });
	gives(['GET', '/holds/h1'], 200, { hold => 'h1', state => 'open', account => 'a', amount => 60, captured => 0, settled => undef },
		'GET /holds/ID');
	my $made = gives(place('a', 5), 201, { state => 'open' }, 'an id is made where none is given');
	like($made->{json}{hold}, qr/^[0-9a-f]{32}$/, 'of 128 random bits');
	my $other = gives(place('a', 5), 201, {}, 'another one each time');
	isnt($other->{json}{hold}, $made->{json}{hold}, 'it is');
	my $keyed = gives([@{ place('a', 5) }, { 'Idempotency-Key' => 'k/1' }], 201, { hold => 'k/1' }, 'or it is the key');
	is($keyed->{headers}{location}, '/holds/k%2F1', 'encoded in the path');
	gives(['GET', '/holds/k%2F1'], 200, { hold => 'k/1', amount => 5 }, 'where it is found');
	my $list = call('GET', '/accounts/a/holds');
	is_deeply([sort map { $_->{hold} } @{ $list->{json}{holds} }],
		[sort 'h1', 'k/1', $made->{json}{hold}, $other->{json}{hold}], 'GET /accounts/NAME/holds has them all');
	refused(release('none'), 404, 'unknown_hold', 'a hold that is none');
	refused(['GET', '/holds/none'], 404, 'unknown_hold', 'likewise');
	refused(['GET', '/accounts/nobody/holds'], 404, 'unknown_account', 'of no account');
	refused(place('a', $_), 400, 'invalid_amount', "a hold of $_") for 0, -1;
	refused(['POST', '/holds', { account => 'a', amount => 1, ttl => $_ }], 400, 'invalid_ttl', "a ttl of $_")
		for 0, -1, 30 * 86400 + 1;
	refused(['POST', '/holds', { account => 'a', amount => 1 }], 400, 'missing_ttl', 'without a ttl');
	gives(place('a', 1, ttl => 30 * 86400, id => 'long'), 201, {}, 'thirty days');
	gives(release($_), 200, { state => 'released' }, "$_ is let go")
		for 'long', 'k%2F1', $made->{json}{hold}, $other->{json}{hold};
	is(state_of('a'), '100 60 40', 'and all is free again');
	return;
}

# The newest line of TYPE in the statement of ACCOUNT.
sub event_of {
	my ($account, $type) = @_;
	my ($newest) = grep { $_->{type} eq $type } @{ call('GET', "/accounts/$account/events")->{json}{events} };
	return $newest;
}

sub test_capture {
	gives(capture('h1', amount => 25), 200,
		{ status => 'accepted', hold => 'h1', state => 'captured', account => 'a', captured => 25, balance => 75, held => 0 },
		'a capture of less');
	is(state_of('a'), '75 0 75', 'frees the rest');
	gives(['GET', '/holds/h1'], 200, { state => 'captured', amount => 60, captured => 25 }, 'as the hold says');
	my $again = gives(capture('h1', amount => 25), 200, { captured => 25, balance => 75 }, 'the same again is answered the same');
	is($again->{headers}{'idempotent-replayed'}, 'true', 'as a replay');
	refused(capture('h1', amount => 26), 409, 'hold_settled', 'another amount is not',
		{ hold => 'h1', state => 'captured', captured => 25 });
	refused(release('h1'), 409, 'hold_settled', 'nor a release', { state => 'captured', captured => 25 });
	my $settled = event_of('a', 'capture');
	refused(capture('h1', amount => 25, to => 'b'), 409, 'hold_settled', 'nor for somebody else',
		{ settled_lsn => $settled->{lsn} });
	is(state_of('a'), '75 0 75', 'nothing was taken twice');
	call(@{ place('a', 50, id => 'h2') });
	gives(capture('h2'), 200, { captured => 50, balance => 25, held => 0 }, 'without an amount: all that is held');
	call(@{ place('a', 10, id => 'h3') });
	gives(capture('h3', amount => 25), 200, { captured => 25, balance => 0 }, 'more than is held, if it is available');
	call(@{ event('a', 20) });
	call(@{ place('a', 15, id => 'h4') });
	refused(capture('h4', amount => 21), 402, 'insufficient_funds', 'and if not, none', { available => 5 });
	is(state_of('a'), '20 15 5', 'the hold stays');
	gives(capture('h4', amount => 0), 200, { state => 'captured', captured => 0, balance => 20, held => 0 },
		'a capture of nothing');
	refused(capture('h4', amount => -1), 400, 'invalid_amount', 'of less than nothing');
	refused(capture('h4', amount => undef), 400, 'invalid_amount', 'of null, which is not: all');
	refused(capture('h4', amount => 0, to => undef), 400, 'invalid_account', 'for null, which is not: nobody');
	call(@{ place('a', 15, id => 'h5') });
	gives(capture('h5', amount => 12, to => 'b'), 200,
		{ captured => 12, balance => 8, to => { account => 'b', balance => 12, version => 1 } }, 'for another account');
	gives(capture('h5', amount => 12, to => 'b'), 200, { captured => 12 }, 'the same again');
	my $paid = event_of('a', 'capture');
	is($paid->{counterparty}, 'b', 'as the statement says');
	my $told = refused(['POST', '/holds/h5/capture', { amount => 12, id => 'no' }], 409, 'hold_settled', 'for the account itself it is not',
		{ settled_lsn => $paid->{lsn} });
	is(call('POST', '/holds/h5/capture', { amount => 12, id => 'no' })->{body}, $told->{body}, 'and this "no" is remembered');
	is(state_of('b'), '12 0 -', 'received once');
	call(@{ place('a', 8, id => 'h6') });
	refused(capture('h6', to => 'a'), 422, 'same_account', 'not for the account itself');
	call('POST', '/accounts', { account => 'low', ceiling => 5 });
	refused(capture('h6', to => 'low'), 422, 'ceiling_exceeded', 'the ceiling of who receives it counts',
		{ account => 'low', ceiling => 5 });
	gives(release('h6'), 200, { hold => 'h6', state => 'released', account => 'a', balance => 8, held => 0 }, 'a release');
	gives(release('h6'), 200, { state => 'released' }, 'and again');
	refused(capture('h6'), 409, 'hold_settled', 'after which nothing can be captured', { state => 'released' });
	return;
}

sub test_frozen {
	account('f', 10);
	call(@{ place('f', 5, id => "f$_") }) for 1 .. 2;
	call('PUT', '/accounts/f', { floor => 0, frozen => 'debits' });
	refused(place('f', 1), 423, 'account_frozen', 'no hold on a frozen account');
	gives(capture('f1'), 200, { balance => 5 }, 'what was held before may be settled');
	call('PUT', '/accounts/f', { floor => 0, frozen => 'all' });
	refused(capture('f2'), 423, 'account_frozen', 'unless all is frozen');
	gives(release('f2'), 200, { held => 0 }, 'a release always works');
	return;
}

# The entity tag is that of the hold's account.
sub test_if_match {
	my $if = sub { return { 'If-Match' => "\"$_[0]\"" } };
	account('i', 50);
	refused([@{ place('i', 5, id => 'i0') }, $if->(1)], 412, 'version_mismatch', 'a hold on an older version', { version => 2 });
	gives([@{ place('i', 5, id => 'i1') }, $if->(2)], 201, { version => 3 }, 'on the present one');
	my $late = [@{ capture('i1', amount => 4, id => 'i2') }, $if->(2)];
	my $refusal = refused($late, 412, 'version_mismatch', 'a capture likewise', { version => 3 });
	call(@{ event('i', 1) });
	my $again = call(@$late);
	is("$again->{body} " . ($again->{headers}{'idempotent-replayed'} || ''), "$refusal->{body} true", 'and that is remembered');
	refused([@{ release('i1') }, $if->(3)], 412, 'version_mismatch', 'a release', { version => 4 });
	is(state_of('i'), '51 5 46', 'nothing happened');
	gives([@{ capture('i1', amount => 4) }, $if->(4)], 200, { state => 'captured', version => 5 }, 'a capture of the present one');
	gives([@{ capture('i1', amount => 4) }, $if->(4)], 200, { state => 'captured', version => 5 }, 'asked for again');
	call(@{ place('i', 5, id => 'i3') });
	refused([@{ capture('i3', to => 'b') }, $if->(6)], 400, 'unsupported_condition', 'for another account: two versions');
	gives([@{ release('i3') }, { 'If-Match' => '*' }], 200, { state => 'released', version => 7 }, 'a release of any');
	refused([@{ release('i3') }, { 'If-None-Match' => '*' }], 400, 'unsupported_condition', 'no If-None-Match');
	refused([@{ release('i3') }, { 'If-Match' => '7' }], 400, 'invalid_if_match', 'malformed');
	return;
}

sub test_delete {
	account('d', 0, floor => -10);
	call(@{ place('d', 5, id => 'd1') });
	refused(['DELETE', '/accounts/d'], 409, 'account_not_empty', 'an account with a hold is not deleted');
	call(@{ release('d1') });
	gives(['DELETE', '/accounts/d'], 200, {}, 'without it is');
	return;
}

sub all_holds {
	my ($path) = @_;
	my (@ids, $pages);
	while (defined $path) {
		my $page = call('GET', $path)->{json};
		push @ids, map { $_->{hold} } @{ $page->{holds} };
		$path = $page->{next};
		last if ++$pages > 100;
	}
	return (\@ids, $pages);
}

sub test_list_and_full {
	account('many', 1000);
	my (@ids, $full);
	for my $id (map { "many-$_" } 1 .. 400) {
		$full = call(@{ place('many', 1, id => $id) });
		last unless $full->{status} == 201;
		push @ids, $id;
	}
	is("$full->{status} $full->{json}{reason}", '507 holds_full', 'the table has a bound');
	cmp_ok(scalar @ids, '>=', 64, 'max_holds fit');
	my ($listed, $pages) = all_holds('/accounts/many/holds?limit=7');
	is_deeply([sort @$listed], [sort @ids], 'all of them are listed, each once');
	cmp_ok($pages, '>=', @ids / 7, 'in pages');
	refused(['GET', '/accounts/many/holds?limit=101'], 400, 'invalid_limit', 'of at most 100');
	refused(['GET', '/accounts/many/holds?cursor=x'], 400, 'invalid_cursor', 'by our cursors');
	call(@{ release($_) }) for @ids;
	is(state_of('many'), '1000 0 1000', 'all are released');
	gives(place('many', 1, id => 'again', ttl => 600), 201, {}, 'and there is room again');
	call(@{ release('again') });
	return;
}

sub test_expiry {
	account('e', 10);
	my $start = time;
	call(@{ place('e', 4, id => 'e1', ttl => 1) });
	call(@{ place('e', 3, id => 'e2', ttl => 2) });
	ok(wait_until(sub { state_of('e') eq '10 3 7' }, 5), 'a hold runs out');
	cmp_ok(time - $start, '>=', 1, 'not before its time');
	cmp_ok(time - $start, '<', 2 * patience() + 1, 'and within a second of it') if patience() == 1;
	gives(['GET', '/holds/e1'], 200, { state => 'expired' }, 'it says so');
	refused(capture('e1'), 409, 'hold_settled', 'it cannot be captured', { state => 'expired' });
	my $first = call('GET', '/accounts/e/events?limit=1')->{json}{events}[0];
	is("$first->{type} $first->{hold} $first->{held}", 'expire e1 3', 'the statement shows it')
		or diag(join ' ', %$first);
	ok(wait_until(sub { state_of('e') eq '10 0 10' }, 5), 'and the next');
	return;
}

sub test_restart {
	call(@{ place('e', 2, id => 'r1', ttl => 1) });
	call(@{ place('e', 3, id => 'r2', ttl => 600) });
	is($tallyd->stop, 0, 'stopped');
	my $before = time;
	wait_until { time > $before + 1.2 } 5;
	$tallyd->start_again;
	use_daemon($tallyd);
	ok(wait_until(sub { state_of('e') eq '10 3 7' }, 5), 'what ran out while nobody served is released');
	gives(['GET', '/holds/r1'], 200, { state => 'expired' }, 'as expired');
	gives(['GET', '/holds/r2'], 200, { state => 'open', amount => 3 }, 'another is still open');
	gives(['GET', '/holds/h5'], 200, { state => 'captured', captured => 12 }, 'and settled ones are known');
	$tallyd->kill9;
	$tallyd->start_again;
	use_daemon($tallyd);
	is(state_of('e'), '10 3 7', 'the same after a crash');
	gives(capture('r2'), 200, { captured => 3, balance => 7 }, 'it can be captured');
	my $again = gives(capture('h5', amount => 12, to => 'b'), 200, { captured => 12, balance => 8 },
		'and an old capture is still answered the same');
	is($again->{headers}{'idempotent-replayed'}, 'true', 'as a replay');
	return;
}

test_place();
test_capture();
test_frozen();
test_if_match();
test_delete();
test_expiry();
test_restart();
test_list_and_full();
done_testing();
