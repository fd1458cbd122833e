#!/usr/bin/perl
# Pages of other origins: what a browser is told about them (the CORS protocol of Fetch), and that
# who is not permitted changes nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Tallyd;
use Test::More;

my $app = 'https://app.example.org';
my $local = 'http://[::1]:8080';
my $evil = 'https://evil.example.org';

my $tallyd = Tallyd->start(config => { cors_origin => "$app $local" });
use_daemon($tallyd);

sub preflight {
	my ($path, $origin, $method, $headers) = @_;
	return call('OPTIONS', $path, undef, { Origin => $origin, 'Access-Control-Request-Method' => $method,
			$headers ? ('Access-Control-Request-Headers' => $headers) : () });
}

# The CORS fields of ANSWER: "allow-origin=.. ..."
sub fields {
	my ($answer) = @_;
	return join '; ', map { /^access-control-(.*)/ ? "$1=$answer->{headers}{$_}" : () } sort keys %{ $answer->{headers} };
}

sub reload {
	my (%changes) = @_;
	$tallyd->set_config(%changes);
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: /, 20, $mark), 'reloaded');
	use_daemon($tallyd);
	return;
}

my $exposed = 'expose-headers=ETag, Location, Retry-After, Idempotent-Replayed';

sub test_preflight {
	my $answer = preflight('/events', $app, 'POST', 'content-type, idempotency-key');
	is($answer->{status}, 204, 'a preflight');
	my $fields = fields($answer);
	like($fields, qr/allow-origin=\Q$app\E(?:;|$)/, 'names the origin');
	like($fields, qr/allow-methods=POST, OPTIONS(?:;|$)/, 'the methods of the path');
	like($fields, qr/allow-headers=Content-Type, Idempotency-Key(?:;|$)/, 'the fields that were asked for');
	like($fields, qr/max-age=\d+(?:;|$)/, 'for a while');
	unlike($fields, qr/credentials/, 'and no credentials');
	like($answer->{headers}{vary}, qr/\bOrigin\b/, 'Vary: Origin');
	like(fields(preflight('/accounts/a', $local, 'PUT', 'If-Match,x-other')),
		qr/allow-headers=If-Match; allow-methods=GET, HEAD, PUT, DELETE, OPTIONS; allow-origin=\Q$local\E; .*max-age/,
		'fields that we do not know are not permitted');
	unlike(fields(preflight('/events', $app, 'POST', 'x-other')), qr/allow-headers/, 'nor named');
	is(fields(preflight('/events', $_, 'POST', 'content-type')), '', "an origin that is not permitted: $_")
		for $evil, 'null', "$app.evil.org", "$app:443", 'http://app.example.org', uc $app;
	is(preflight('/events', $evil, 'POST')->{status}, 204, 'it is an OPTIONS like others');
	is(preflight('/nowhere', $app, 'GET')->{status}, 404, 'and of no path');
	return;
}

sub test_requests {
	my $answer = call(@{ event('a', 1) }, { Origin => $app, 'Content-Type' => 'application/json' });
	is($answer->{status}, 200, 'a page that is permitted may change something');
	is(fields($answer), "allow-origin=$app; $exposed", 'and read the answer');
	like($answer->{headers}{vary}, qr/\bOrigin\b/, 'Vary: Origin');
	is(fields(call('GET', '/accounts/a', undef, { Origin => $app })), "allow-origin=$app; $exposed", 'also of a GET');
	is(fields(call('GET', '/accounts/none', undef, { Origin => $app })), "allow-origin=$app; $exposed", 'also a refusal');
	my $version = call('GET', '/accounts/a')->{headers}{etag};
	is(fields(call('GET', '/accounts/a', undef, { Origin => $app, 'If-None-Match' => $version })),
		"allow-origin=$app; $exposed", 'also a 304');
	is(fields(call('GET', '/accounts/a/events', undef, { Origin => $app })), "allow-origin=$app; $exposed", 'also a page');
	refused([@{ event('a', 1) }, { Origin => $_ }], 403, 'foreign_origin', "$_ may not") for $evil, 'null', "$app:444";
	is(fields(call(@{ event('a', 1) }, { Origin => $evil })), '', 'and may not read why');
	refused(['POST', '/events', '{"account":"a","amount":1}', [Origin => $app, Origin => $evil]], 403, 'foreign_origin',
		'one Origin, not two');
	for (['POST', '/accounts', { account => 'b' }], ['PUT', '/accounts/b', {}], ['DELETE', '/accounts/a'],
		['POST', '/transfers', { from => 'a', to => 'b', amount => 1 }], ['POST', '/transactions', { legs => [] }],
		['POST', '/holds', { account => 'a', amount => 1, ttl => 1 }], ['POST', '/holds/h/capture', {}],
		['POST', '/holds/h/release', {}], ['POST', '/events', '[]'], ['POST', '/echo', 'x']) {
		refused([@$_[0 .. 2], { Origin => $evil }], 403, 'foreign_origin', "no $_->[0] $_->[1] either");
	}
	my %lines = ('Content-Type' => 'application/x-ndjson');
	refused(['POST', '/events', qq({"account":"b","amount":1}\n), { %lines, Origin => $evil }], 403, 'foreign_origin',
		'no stream either');
	is(fields(call('POST', '/events', "\n", { %lines, Origin => $app })), "allow-origin=$app; $exposed",
		'but one of a page that is permitted');
	is(balances('a', 'b'), '1 -', 'nothing was changed');
	is(call('GET', '/accounts/a', undef, { Origin => $evil })->{status}, 200, 'reading is the browser\'s to refuse');
	like(call('GET', '/accounts/a')->{headers}{vary}, qr/\bOrigin\b/, 'who says no origin may be told another answer');
	my $own = 'http://127.0.0.1:' . $tallyd->port;
	gives([@{ event('a', 1) }, { Origin => $own, Host => substr $own, 7 }], 200, { balance => 2 }, 'our own pages may');
	return;
}

# Refusals that close the connection, sent by themselves: what they say of the connection's own is
# for a page and a client of RFC 9457, too, once the head is read.
sub test_closing {
	my %page = (Origin => $app, Accept => 'application/problem+json');
	my %chunked = (%page, 'Transfer-Encoding' => 'chunked');
	for (['POST', { %page, 'Content-Length' => 2 * 1024**2 }, undef, 413, 'body_too_large'],
		['POST', \%chunked, "x\r\n", 400, 'bad_chunk'],
		['BREW', \%page, undef, 501, 'unknown_method'],
		['POST', { %page, 'Content-Type' => 'application/x-ndjson', 'If-Match' => '"1"', 'Content-Length' => 0 }, undef,
			400, 'unsupported_condition']) {
		my ($method, $headers, $body, $status, $reason) = @$_;
		my $answer = $tallyd->request($method, '/events', $headers, $body);
		is("$answer->{status} $answer->{headers}{connection} $answer->{headers}{'content-type'}",
			"$status close application/problem+json", "$reason as a problem");
		is($answer->{json}{reason}, $reason, 'for its reason');
		is(fields($answer), "allow-origin=$app; $exposed", 'and for the page');
	}
	my $answer = $tallyd->request('BREW', '/events', { Origin => $evil, Accept => '*/*' });
	is("$answer->{headers}{'content-type'} " . fields($answer), 'application/json ', 'not for another');
	like($answer->{headers}{vary}, qr/\bOrigin\b/, 'which may differ');
	return;
}

sub test_any {
	reload(cors_origin => '*');
	my $answer = call(@{ event('a', 1) }, { Origin => $evil });
	is("$answer->{status} " . fields($answer), "200 allow-origin=*; $exposed", '"*" permits any page');
	like(fields(preflight('/events', 'null', 'POST')), qr/allow-origin=\*/, 'even one without a name');
	is(fields(call('GET', '/accounts/a')), '', 'who says no origin is told nothing');
	return;
}

sub test_off {
	reload(cors_origin => undef);
	refused([@{ event('a', 1) }, { Origin => $app }], 403, 'foreign_origin', 'without cors_origin no page may');
	is(fields(preflight('/events', $app, 'POST', 'content-type')), '', 'and none is told that it might');
	is(fields(call('GET', '/accounts/a', undef, { Origin => $app })), '', 'nor read');
	return;
}

test_preflight();
test_requests();
test_closing();
test_any();
test_off();
done_testing();
