#!/usr/bin/perl
# The documents of json-cases.h, sent to the running daemon: what must be refused is refused with
# its reason and changes nothing, what must be read is applied, exactly once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Math::BigInt;
use Test::More;

use Tallyd qw(slurp);

use constant {
	INT64_MAX => Math::BigInt->new('9223372036854775807'),
	INT64_MIN => Math::BigInt->new('-9223372036854775808'),
};

# A C string as json-cases.h writes it: three octal digits, or the character itself.
sub unquote {
	my ($string) = @_;
	$string =~ s/\\(?:([0-7]{3})|(["\\]))/defined $1 ? chr oct $1 : $2/ge;
	return $string;
}

# The lists of refused [reason, document] and of accepted [account, amount, document].
sub cases {
	my (@refused, @accepted);
	my $quoted = qr/"((?:[^"\\]|\\.)*)"/;
	for (split /\n/, slurp("$FindBin::Bin/json-cases.h")) {
		if (/^REFUSED\($quoted, $quoted\)$/) {
			push @refused, [$1, unquote($2)];
		} elsif (/^ACCEPTED\($quoted, $quoted, $quoted\)$/) {
			push @accepted, [unquote($1), $2, unquote($3)];
		} elsif (/^(?:REFUSED|ACCEPTED)/) {
			die "json-cases.h: a line that Perl cannot read: $_";
		}
	}
	return (\@refused, \@accepted);
}

# A document as a test's name.
sub shown {
	my ($document) = @_;
	my $cut = length $document > 60 ? '...' : '';
	$document = substr $document, 0, 60;
	$document =~ s/([^\x20-\x7e]|[#\\])/sprintf '\\x%02x', ord $1/ge;
	return "$document$cut";
}

my $tallyd = Tallyd->start();
my $connection = $tallyd->connection;

# All on one connection: a refused document is no framing error and must not cost it.
sub post {
	my ($document) = @_;
	return $tallyd->request('POST', '/events', { 'Content-Type' => 'application/json' }, $document,
		connection => $connection);
}

# The account NAME (bytes) as the daemon shows it, or undef.
sub account {
	my ($name) = @_;
	$name =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge;
	my $answer = $tallyd->request('GET', "/accounts/$name", undef, undef,
		connection => $connection);
	die "GET /accounts/$name: $answer->{status}" unless $answer->{status} =~ /^(?:200|404)$/;
	return $answer->{status} == 200 ? $answer : undef;
}

# A number of the body as text: JSON::PP's floats would lose the ends of int64.
sub exact {
	my ($answer, $key) = @_;
	return $answer->{body} =~ /"\Q$key\E":(-?\d+)/ ? $1 : undef;
}

sub refused_is {
	my ($reason, $document) = @_;
	my $answer = post($document);
	my $json = $answer->{json} || {};
	return ok($answer->{status} == 400
			&& ($json->{status} || '') eq 'error'
			&& ($json->{reason} || '') eq $reason
			&& ($json->{detail} || '') =~ /^[\x20-\x7e]{10,}$/,
		"$reason: " . shown($document)) || diag("$answer->{status} $answer->{body}");
}

# What the names that refused documents speak of hold before and after.
sub untouched {
	return join ' ', map { my $answer = account($_); $answer ? $answer->{body} : 'none' }
		qw(a b x alice);
}

# What tests have put into accounts so far.
my (%balance, %version);

# Brings NAME to zero, so that an amount at the end of int64 fits.
sub empty_account {
	my ($name) = @_;
	while ($balance{$name}) {
		my $amount = $balance{$name}->copy->bneg;
		$amount = INT64_MAX->copy if $amount > INT64_MAX;
		my $document = sprintf '{"account":"%s","amount":%s}',
			$name =~ s/(["\\])/\\$1/gr, $amount->bstr;
		my $answer = post($document);
		die "cannot empty an account: $answer->{status} $answer->{body}"
			unless $answer->{status} == 200;
		$balance{$name} += $amount;
		$version{$name}++;
	}
	return;
}

sub accepted_is {
	my ($name, $amount, $document) = @_;
	my $sum = ($balance{$name} || Math::BigInt->bzero) + $amount;
	if ($sum > INT64_MAX || $sum < INT64_MIN) {
		empty_account($name);
		$sum = Math::BigInt->new($amount);
	}
	my $answer = post($document);
	my $json = $answer->{json} || {};
	utf8::encode(my $account = defined $json->{account} ? $json->{account} : '');
	# Nothing is no change.
	$version{$name}++ unless $amount == 0;
	my $good = $answer->{status} == 200
		&& ($json->{status} || '') eq 'accepted'
		&& $account eq $name
		&& (exact($answer, 'balance') // '') eq $sum->bstr
		&& $json->{version} == $version{$name};
	$balance{$name} = $sum;
	return ok($good, 'applied: ' . shown($document)) || diag("$answer->{status} $answer->{body}");
}

my ($refused, $accepted) = cases();
# Over HTTP an array is several events.
@$refused = grep { $_->[0] ne 'not_an_object' || $_->[1] !~ /^\s*\[/ } @$refused;
cmp_ok(@$refused,  '>=', 150, 'enough documents to refuse');
cmp_ok(@$accepted, '>=', 60,  'and to read');

ok(!defined account('a'), 'no account yet');
my $before = untouched();
refused_is(@$_) for @$refused;
is(untouched(), $before, 'a refused document creates no account');

accepted_is('a', '1', '{"account":"a","amount":1}');
accepted_is(@$_) for @$accepted;
$before = untouched();
like($before, qr/"balance"/, 'there are balances now');
refused_is(@$_) for @$refused;
is(untouched(), $before, 'a refused document leaves balances and versions as they are');

for my $name (sort keys %balance) {
	my $answer = account($name);
	is($answer ? exact($answer, 'balance') : undef, $balance{$name}->bstr,
		'balance of ' . shown($name));
}

is($tallyd->stop, 0, 'drained');
done_testing();
