#!/usr/bin/perl
# A real browser and real pages: one of another origin that works on accounts as on any REST resource,
# with fetch and a token; one that is not permitted; and the console where tokens are needed.

use strict;
use warnings;
use utf8;

use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Browser;
use File::Temp ();
use IO::Socket::IP;
use POSIX ();
use Tallyd qw(free_port patience wait_until);
use Test::More;

binmode $_, ':encoding(UTF-8)' for map { Test::More->builder->$_ } qw(output failure_output);

my $browser = Browser->start;
plan skip_all => 'there is no chromium with chromedriver: install Debian\'s chromium and chromium-driver' unless $browser;

# ---- two origins besides tallyd's own, which serve an empty page

my $parent = $$;
my @servers;

sub serve_pages {
	my ($port) = (free_port());
	my $listener = IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => $port, Listen => 16, ReuseAddr => 1) or die "cannot listen: $@";
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		my $page = '<!DOCTYPE html><html><head><title>page</title><link rel="icon" href="data:,"></head><body>a page</body></html>';
		while (1) {
			my $bits = '';
			vec($bits, fileno $listener, 1) = 1;
			select $bits, undef, undef, 1;
			POSIX::_exit(0) if getppid != $parent;
			next unless vec $bits, fileno $listener, 1;
			my $client = $listener->accept or next;
			$client->timeout(5);
			while (my $line = <$client>) { last if $line =~ /^\r?\n/ }
			print {$client} "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: " . length($page) . "\r\nConnection: close\r\n\r\n$page";
			close $client;
		}
	}
	push @servers, $pid;
	close $listener;
	return "http://127.0.0.1:$port";
}

my ($app, $evil) = (serve_pages(), serve_pages());
my $dir = File::Temp::tempdir('tallyd-pages-XXXXXX', TMPDIR => 1, CLEANUP => 1);
open my $tokens, '>', "$dir/tokens" or die $!;
chmod 0600, "$dir/tokens";
print {$tokens} "page @{[ sha256_hex('page') ]} read,write,admin prefix=page/\nconsole @{[ sha256_hex('console') ]} read\n";
close $tokens;
my $tallyd = Tallyd->start(config => { auth_file => "$dir/tokens", cors_origin => $app });
my $url = $tallyd->url;

# The story of CALLS, one after the other in the page: [METHOD, PATH, BODY, HEADERS] each.  What became of
# each: { status, headers that can be read, json }, or { failed }.
sub story {
	my (@calls) = @_;
	return $browser->run_async(<<'SCRIPT', $url, \@calls);
		const [url, calls, done] = arguments;
		(async () => {
			const told = [];
			for (const [method, path, body, headers] of calls) {
				try {
					const answer = await fetch(url + path, { method, headers: headers || {}, body: body === null ? undefined : JSON.stringify(body) });
					const text = await answer.text();
					let json = null;
					try { json = JSON.parse(text); } catch { }
					told.push({ status: answer.status, etag: answer.headers.get("ETag"), location: answer.headers.get("Location"),
						replayed: answer.headers.get("Idempotent-Replayed"), json });
				} catch (error) { told.push({ failed: String(error) }); }
			}
			return told;
		})().then(done);
SCRIPT
}

my %with = (Authorization => 'Bearer page', 'Content-Type' => 'application/json');

sub test_resource {
	$browser->go("$app/");
	my $told = story(
		['POST', '/accounts', { account => 'page/é 1', floor => 0 }, \%with],
		['GET', '/accounts/page%2F%C3%A9%201', undef, \%with],
		['PUT', '/accounts/page%2F%C3%A9%201', { floor => -10, ceiling => 100 }, { %with, 'If-Match' => '"1"' }],
		['PUT', '/accounts/page%2F%C3%A9%201', { floor => 0 }, { %with, 'If-Match' => '"1"' }],
		['POST', '/events', { account => 'page/é 1', amount => 7 }, { %with, 'Idempotency-Key' => 'page-1' }],
		['POST', '/events', { account => 'page/é 1', amount => 7 }, { %with, 'Idempotency-Key' => 'page-1' }],
		['POST', '/events', { account => 'page/é 1', amount => -20 }, \%with],
		['GET', '/accounts?prefix=page', undef, \%with],
		['DELETE', '/accounts/page%2F%C3%A9%201', undef, \%with],
		['POST', '/events', { account => 'page/é 1', amount => -7 }, \%with],
		['DELETE', '/accounts/page%2F%C3%A9%201', undef, \%with],
		['GET', '/accounts/page%2F%C3%A9%201', undef, \%with],
		['GET', '/accounts/other', undef, \%with],
		['GET', '/accounts/page%2F1', undef, {}],
	);
	my @status = map { $_->{status} || $_->{failed} } @$told;
	is("@status", '201 200 200 412 200 200 402 200 409 200 200 404 403 401', 'a page of another origin makes, reads, changes and removes an account');
	is($told->[0]{location}, '/accounts/page%2F%C3%A9%201', 'it is told where it is') if defined $told->[0]{location};
	is($told->[1]{etag}, '"1"', 'and its version');
	is($told->[1]{json}{account}, 'page/é 1', 'the account is the one that it made');
	is($told->[2]{json}{floor}, -10, 'what it changed is changed');
	is($told->[5]{replayed}, 'true', 'a retry is told that it is one');
	is($told->[4]{json}{balance}, 7, 'an event counts once');
	is($told->[6]{json}{reason}, 'insufficient_funds', 'a refusal can be read');
	is(scalar @{ $told->[7]{json}{accounts} }, 1, 'the list has it');
	is($told->[13]{json}{reason}, 'unauthorized', 'without a token nothing');
	return;
}

sub test_foreign {
	$browser->go("$evil/");
	my $told = story(
		['POST', '/accounts', { account => 'page/evil' }, \%with],
		['GET', '/accounts/page%2Fevil', undef, \%with],
		['GET', '/healthz', undef, {}],
		['POST', '/events', { account => 'page/evil', amount => 1 }, { 'Content-Type' => 'text/plain' }],
	);
	is(scalar(grep { ($_->{failed} || '') =~ /Failed to fetch/ } @$told), 4, 'a page that is not permitted reads nothing, not even whether it is well');
	is($tallyd->call('GET', '/accounts/page%2Fevil', undef, \%with)->{status}, 404, 'and has changed nothing');
	return;
}

# ---- the console

sub seen { my ($selector, $pattern) = @_; return wait_until(sub { ($browser->text($selector) // '') =~ $pattern }, 20) }

sub test_console {
	$browser->errors;
	$browser->go("$url/");
	ok(seen('#locked', qr/asks for one/), 'the console asks for a token');
	is($browser->text('#version') // '', '', 'and shows nothing without');
	$browser->type('#token', 'wrong');
	$browser->click('#unlock button');
	ok(seen('#locked', qr/not valid/), 'a wrong one is told so');
	$browser->type('#token', 'page');
	$browser->click('#unlock button');
	ok(seen('#locked', qr/does not permit all/), 'and one that does not permit enough');
	$browser->type('#token', 'console');
	$browser->click('#unlock button');
	ok(seen('#version', qr/\d/), 'with a good one it shows what there is');
	ok(wait_until(sub { $browser->run('return document.getElementById("unlock").hidden') }, 20), 'and asks no more');
	$tallyd->call('POST', '/events', { account => 'page/seen', amount => 3 }, \%with);
	ok(seen('#feed', qr{page/seen}), 'events come in');
	$browser->type('#name', 'page/seen');
	$browser->click('#lookup button');
	ok(seen('#account', qr/Balance\s+3/), 'an account is found');
	is($browser->run('return sessionStorage.length + localStorage.length + document.cookie.length'), 1, 'the token is kept for this tab alone');
	my @errors = grep { !/status of (?:401|403)/ } $browser->errors;
	is("@errors", '', 'and the browser complains of nothing but the refusals');
	$browser->screenshot($ENV{TALLYD_SCREENSHOT}) if $ENV{TALLYD_SCREENSHOT};
	return;
}

test_resource();
test_foreign();
test_console();
kill TERM => @servers;
waitpid $_, 0 for @servers;
is($tallyd->stop, 0, 'drains');
done_testing();
