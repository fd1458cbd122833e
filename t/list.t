#!/usr/bin/perl
# The list of accounts: an account that exists throughout appears exactly once, whatever happens to
# others meanwhile; prefixes; cursors that outlive a restart.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Tallyd qw(read_response send_all);
use Test::More;

use constant {
	ACCOUNTS => 3000,
	CHURN    => 7,       # accounts made and deleted between two pages
};

my $tallyd = Tallyd->start(config => { max_accounts => 60_000 });
use_daemon($tallyd);

sub make {
	my (@names) = @_;
	my $socket = $tallyd->connection;
	while (my @some = splice @names, 0, 100) {
		send_all($socket, join '', map {
			my $body = qq({"account":"$_","amount":1});
			"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body" } @some);
		read_response($socket)->{status} == 200 or die 'an account was not made' for @some;
	}
	return;
}

# The names listed from PATH on; BETWEEN is called after each page.
sub listed {
	my ($path, $between) = @_;
	my (@names, $pages);
	while (defined $path) {
		die "too many pages: $path" if ++$pages > 5000;
		my $answer = call('GET', $path);
		die "$answer->{status} $answer->{body}" unless $answer->{status} == 200;
		push @names, map { $_->{account} } @{ $answer->{json}{accounts} };
		$path = $answer->{json}{next};
		$between->($pages) if $between;
	}
	return (\@names, $pages);
}

sub counts { my %count; $count{$_}++ for @_; return \%count }

my @names = map { sprintf 'name-%04d', $_ } 1 .. ACCOUNTS;
my @long = map { ('long ' x 15) . "$_ \x{22}q\x{22}" } 1 .. 40;

sub test_empty {
	is_deeply(call('GET', '/accounts')->{json}, { accounts => [], next => undef }, 'no accounts: an empty list');
	return;
}

sub test_whole {
	make(@names);
	call('POST', '/accounts', { account => $_, floor => 0 }) for @long;
	my %expected = map { $_ => 1 } @names, @long;
	for my $limit (100, 37) {
		my ($listed, $pages) = listed("/accounts?limit=$limit");
		is_deeply(counts(@$listed), \%expected, "pages of $limit: each account once");
		cmp_ok($pages, '<=', ACCOUNTS / $limit * 2 + 20, 'in pages that are not much smaller');
	}
	my ($default) = listed('/accounts');
	is(scalar @$default, ACCOUNTS + @long, 'and without a limit');
	my $one = call('GET', "/accounts?prefix=name-0042")->{json}{accounts}[0];
	is_deeply($one, call('GET', '/accounts/name-0042')->{json}, 'an account in the list looks as by itself');
	return;
}

sub test_prefix {
	is_deeply([sort @{ (listed('/accounts?prefix=name-01&limit=7'))[0] }], [grep { /^name-01/ } @names], 'a prefix');
	is_deeply((listed('/accounts?prefix=name-2999'))[0], ['name-2999'], 'of one');
	is_deeply(call('GET', '/accounts?prefix=none')->{json}, { accounts => [], next => undef },
		'of none: answered at once, whatever else there is');
	is(scalar @{ (listed('/accounts?prefix=long%20long&limit=3'))[0] }, 40, 'percent-encoded');
	make('caf\u00e9');
	is_deeply((listed('/accounts?prefix=caf%C3'))[0], ["caf\x{e9}"], 'cut within a character');
	is(scalar @{ (listed('/accounts?prefix='))[0] }, ACCOUNTS + @long + 1, 'an empty one is none');
	refused(['GET', '/accounts?prefix=' . 'x' x 101], 400, 'invalid_prefix', 'longer than any name');
	return;
}

sub test_churn {
	my $made = 0;
	my %always = map { $_ => 1 } @names;
	my ($listed) = listed('/accounts?limit=50', sub {
		my ($page) = @_;
		for (1 .. CHURN) {
			call('POST', '/accounts', { account => 'churn-' . ++$made });
			call('DELETE', '/accounts/churn-' . ($made - 5)) if $made > 5;
		}
		call(@{ event($names[$page], 1) });
	});
	my $count = counts(@$listed);
	my @wrong = grep { ($count->{$_} || 0) != 1 } @names;
	is("@wrong", '', 'while others come and go and balances change, each account is listed once');
	my @twice = grep { $count->{$_} > 1 } keys %$count;
	is("@twice", '', 'none twice');
	return;
}

sub test_cursors {
	refused(['GET', "/accounts?cursor=$_"], 400, 'invalid_cursor', "cursor=$_")
		for '', 'x', 'a0123', 'b0123456789abcdef', 'a0123456789abcdeF', 'a0123456789abcdef0';
	refused(['GET', "/accounts?limit=$_"], 400, 'invalid_limit', "limit=$_") for 0, 101, 'x';
	my ($path, @cursors) = '/accounts?limit=100&prefix=name-';
	while (defined $path) {
		$path = call('GET', $path)->{json}{next};
		push @cursors, $path =~ /cursor=(\w+)/ if defined $path;
	}
	isnt("@cursors", join(' ', sort @cursors), 'cursors do not tell the order of the hashes');
	is(scalar keys %{ counts(@cursors) }, @cursors, 'and no two are the same');
	my $page = call('GET', '/accounts?limit=100&prefix=name-')->{json};
	my @first = map { $_->{account} } @{ $page->{accounts} };
	is($tallyd->stop, 0, 'stopped in the middle of a listing');
	$tallyd->set_config(max_accounts => 30_000);
	$tallyd->start_again;
	use_daemon($tallyd);
	my ($rest) = listed($page->{next});
	is_deeply(counts(@first, @$rest), { map { $_ => 1 } @names }, 'the cursor goes on after a restart: each once');
	return;
}

test_empty();
test_whole();
test_prefix();
test_churn();
test_cursors();
done_testing();
