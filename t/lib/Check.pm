package Check;

# Assertions about single answers of a tallyd.
#
#     use_daemon($tallyd);
#     gives(['POST', '/events', { account => 'a', amount => 1 }], 200, { balance => 1 }, 'an event');
#     refused(['DELETE', '/accounts/a'], 409, 'account_not_empty', 'not while there is a balance');

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use Test::More ();

our @EXPORT = qw(use_daemon call event gives refused balances);

my ($tallyd, $connection);

# Of whom call and the like speak; again after each restart and reload.
sub use_daemon {
	($tallyd) = @_;
	$connection = $tallyd->connection;
	return $tallyd;
}

# The answer to METHOD PATH BODY HEADERS (Tallyd's call).
sub call { return $tallyd->call(@_[0 .. 3], connection => $connection) }

# The request of one event.
sub event {
	my ($account, $amount, %more) = @_;
	return ['POST', '/events', { account => $account, amount => $amount, %more }];
}

sub _same {
	my ($got, $wanted) = @_;
	return !defined $got && !defined $wanted unless defined $got && defined $wanted;
	my $json = JSON::PP->new->canonical;
	return ref $wanted ? $json->encode([$got]) eq $json->encode([$wanted]) : $got eq $wanted;
}

# The answer to REQUEST has STATUS, and in its JSON object what WANTED says.  Returns it.
sub gives {
	my ($request, $status, $wanted, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $answer = call(@$request);
	my $json = ref $answer->{json} eq 'HASH' ? $answer->{json} : {};
	my @wrong = grep { !exists $json->{$_} && defined $wanted->{$_} || !_same($json->{$_}, $wanted->{$_}) }
		sort keys %$wanted;
	unshift @wrong, 'status' if $answer->{status} != $status;
	Test::More::ok(!@wrong, $name)
		or Test::More::diag("wrong: @wrong\n$answer->{status} $answer->{body}");
	return $answer;
}

# The same for an error with REASON.
sub refused {
	my ($request, $status, $reason, $name, $wanted) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return gives($request, $status, { status => 'error', reason => $reason, %{ $wanted || {} } }, $name);
}

# The balances of ACCOUNTS in one text, "-" for one that is not there.
sub balances {
	return join ' ', map { my $balance = $tallyd->balance($_); defined $balance ? $balance : '-' } @_;
}

1;
