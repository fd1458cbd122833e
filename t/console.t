#!/usr/bin/perl
# The console: what is served to a browser, and what a browser makes of it: a headless Chromium reads
# it, looks an account up, sees events come and workers go.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Browser;
use Check;
use Digest::SHA qw(sha256_base64 sha256_hex);
use File::Temp ();
use Tallyd qw(patience wait_until);
use Test::More;

use constant {
	SEEN_WITHIN => 1000,    # milliseconds from the answer until it is on the page
	PAGE_MAX    => 32_768,
	PHONE       => 360,     # CSS pixels of a narrow one
	ROWS        => 100,     # of the feed, that the page keeps
	TOLD        => 400,     # characters of what was there instead
	TABS        => 8,       # more than a browser has connections
	EVERY       => 1,       # seconds between two looks of a page
	FAR         => 4 << 20, # bytes of journal that a page does not catch up with
	SILENCE     => 20,      # seconds after which the page asks for its feed again
	SAFE        => '9007199254740993',    # the first whole number that a double cannot hold
};

binmode $_, ':encoding(UTF-8)' for map { Test::More->builder->$_ } qw(output failure_output);

my $tallyd = use_daemon(Tallyd->start(config => { workers => 2, respawn_backoff => 0 }));

# ---- without a browser

sub page { my (@headers) = @_; return $tallyd->request('GET', '/', [@headers]) }

sub is_page { return ($_[0]{headers}{'content-type'} || '') eq 'text/html; charset=utf-8' }

sub test_choice {
	my $browsers = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8';
	ok(is_page(page(Accept => $browsers)), 'what browsers send gets the page');
	ok(is_page(page(Accept => 'application/json;q=0.5, text/html')), 'who likes it better gets it');
	ok(!is_page(page()), 'who says nothing gets JSON');
	for my $accept ('*/*', 'application/json', 'text/html, application/json', 'application/json, text/html;q=0.9', 'text/html;q=0, */*') {
		my $answer = page(Accept => $accept);
		is($answer->{json} && $answer->{json}{service}, 'tallyd', "'$accept' gets JSON");
		is($answer->{headers}{vary}, 'Accept', '  and caches are told why');
	}
	my $head = $tallyd->request('HEAD', '/', [Accept => 'text/html']);
	is($head->{headers}{'content-length'}, length page(Accept => 'text/html')->{body}, 'HEAD says how long it is');
	return;
}

sub test_page {
	my $answer = page(Accept => 'text/html');
	my %head = %{ $answer->{headers} };
	is($answer->{status}, 200, 'it is there');
	is($head{vary}, 'Accept', 'and varies');
	is($head{'x-content-type-options'}, 'nosniff', 'its type is to be believed');
	cmp_ok(length $answer->{body}, '<', PAGE_MAX, 'it is small');
	unlike($answer->{body}, qr{https?://|src\s*=|url\(|\@import|<link[^>]+href="(?!data:,")}, 'it has no outside resources');
	for my $part (['style', 'style-src'], ['script', 'script-src']) {
		my ($text) = $answer->{body} =~ m{<$part->[0]>(.*?)</$part->[0]>}s;
		my $hash = sha256_base64($text);
		$hash .= '=' while length($hash) % 4;
		like($head{'content-security-policy'}, qr/(?:^|; )\Q$part->[1] 'sha256-$hash'\E(?:;|$)/, "the policy allows its $part->[0]");
	}
	like($head{'content-security-policy'}, qr/^default-src 'none'; /, 'and nothing else');
	unlike($head{'content-security-policy'}, qr/unsafe|\*/, 'without exception');
	my $markup = $answer->{body} =~ s{<(style|script)>.*?</\1>}{}gsr;
	unlike($markup, qr/\son\w+\s*=|\sstyle\s*=/, 'which nothing in it needs');
	return;
}

test_choice;
test_page;

# ---- with one

my $browser = Browser->start;
if (!$browser) {
	diag('there is no chromium with chromedriver: install Debian\'s chromium and chromium-driver');
	is($tallyd->stop, 0, 'it stops');
	done_testing;
	exit;
}

# CONDITION comes true within SECONDS.
sub comes (&$$) {
	my ($condition, $seconds, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(&wait_until($condition, $seconds), $name);
}

sub seen {
	my ($selector, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return (comes { ($browser->text($selector) // '') =~ $pattern } 10, $name) || diag(substr $browser->text($selector) // '', 0, TOLD);
}

# Is something of the element there to be seen?
sub shown { my ($selector) = @_; return $browser->run('return +document.querySelector(arguments[0]).checkVisibility()', $selector) }

sub look_up { my ($name) = @_; $browser->type('#name', $name); return $browser->click('#lookup button') }

gives(event('alice', SAFE + 0, id => 'large', note => '<img src=x onerror=document.title="caught"> & "more"'), 200, {}, 'an event from before');
gives(['POST', '/holds', { account => 'alice', amount => 7, id => 'hold-1', ttl => 600 }], 201, {}, 'a hold');

sub test_load {
	$browser->go($tallyd->url . '/');
	is($browser->run('return document.title'), 'tallyd', 'it loads');
	seen('#health', qr/^taking updates$/, 'it says that all is well');
	seen('#about', qr/^up \d+ s, 2 workers on /, 'and where it is');
	seen('#following', qr/^following$/, 'it follows the feed');
	seen('#workers tbody', qr/^(?:\S+\s+\d+\s+\d+\s+\d+\s+\d+\s+[\d.]+\s*){2}$/, 'both workers are shown, with their rates');
	is($browser->text('#workers th'), 'Slot', 'by their slots, which are not the numbers of the log');
	is_deeply([map { $_->[0] } @{ $browser->run('return [...document.querySelectorAll("#workers tbody tr")].map(row => [...row.cells].map(cell => cell.innerText))') }],
		[call('GET', '/metrics')->{body} =~ /^tallyd_worker_pid\{slot="(\d+)"\}/mg], 'as the metrics have them');
	like($browser->run('return document.getElementById("p50").closest(".tile").innerText'), qr/^Any answer\s.*also of reads/s, 'an answer\'s time is said to be that of any');
	seen('#accounts', qr/^1$/, 'and how many accounts there are');
	seen('#rate', qr/^[\d.]+$/, 'a rate');
	is(shown('#unlock'), 0, 'nobody is asked for a token where none is needed');
	is_deeply([$browser->errors], [], 'the console has nothing to say');
	return;
}

# What is posted by the page's own fetch, and when its mark is on the page: both by the browser's clock.
my $POST_AND_SEE = <<'JS';
const [body, mark, done] = arguments;
let answered, shown;
const ready = () => { if (answered !== undefined && shown !== undefined) { observer.disconnect(); done(Math.max(0, shown - answered)); } };
const observer = new MutationObserver(() => {
	if (shown === undefined && document.getElementById("feed").innerText.includes(mark)) { shown = performance.now(); ready(); }
});
observer.observe(document.getElementById("feed"), { childList: true, subtree: true });
fetch("/events", { method: "POST", headers: { "Content-Type": "application/json" }, body })
	.then(answer => answer.json()).then(() => { answered = performance.now(); ready(); });
JS

sub test_feed {
	my @took = map { $browser->run_async($POST_AND_SEE, qq({"account":"bob","amount":$_,"id":"seen-$_"}), "seen-$_") } 1 .. 5;
	is(scalar(grep { $_ < SEEN_WITHIN * patience() } @took), 5, 'an event is seen within a second of its answer') or diag("@took");
	is($browser->run('return document.querySelector("#feed tbody tr").innerText')=~ s/\s+/ /gr =~ s/^[\d:]+ //r, 'bob +5 15 event seen-5', 'with what it did, the newest on top');
	gives(['POST', '/transfers', { from => 'bob', to => 'carol', amount => 3, id => 'moved', note => 'lunch' }], 200, {}, 'a transfer');
	seen('#feed', qr/bob\s+-3\s+12\s+transfer\s+moved · lunch\s+carol\s+\+3\s+3/, 'has a row for each account');
	for my $round (1 .. 3) {
		$tallyd->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'], join '', map { qq({"account":"many","amount":1,"id":"$round-$_"}\n) } 1 .. ROWS);
	}
	seen('#feed tbody', qr/^\S+\s+many\s+\+1\s+@{[3 * ROWS]}\s/, 'many come through');
	is($browser->run('return document.getElementById("feed").tBodies[0].rows.length'), ROWS, 'of which the page keeps the newest');
	return;
}

sub test_filter {
	$browser->run(q(const prefix = document.getElementById("prefix"); prefix.value = "car"; prefix.dispatchEvent(new Event("change"))));
	seen('#following', qr/^following$/, 'a filtered feed is followed');
	comes { $browser->run('return document.getElementById("feed").tBodies[0].rows.length') == 0 } 5, 'from now on';
	# The feed begins with what is newest when it is asked for: until it shows something, ask again.
	my $amount = 0;
	comes { $amount++; call('POST', '/transactions', { legs => [{ account => 'carol', amount => $amount }, { account => 'dave', amount => -$amount }] });
		($browser->text('#feed tbody') // '') =~ /carol/ } 10, 'what is asked for is seen';
	call('POST', '/events', { account => 'elsewhere', amount => 1 });
	call('POST', '/events', { account => 'carol', amount => 77, id => 'after' });
	seen('#feed tbody', qr/after/, 'and goes on');
	unlike($browser->text('#feed tbody'), qr/elsewhere/, 'other accounts are not');
	$browser->click('#hold');
	call('POST', '/events', { account => 'carol', amount => 1, id => 'paused' });
	call('POST', '/events', { account => 'watched', amount => 1 });
	is($browser->text('#hold'), 'Go on', 'it can be paused');
	$browser->click('#hold');
	comes { call('POST', '/events', { account => 'carol', amount => 1, id => 'awake-' . $amount++ }); ($browser->text('#feed tbody') // '') =~ /awake/ } 10, 'and go on';
	$browser->run(q(const prefix = document.getElementById("prefix"); prefix.value = ""; prefix.dispatchEvent(new Event("change"))));
	return;
}

sub test_account {
	look_up('alice');
	seen('#account', qr/Balance\s+9,007,199,254,740,993\s+Held\s+7\s/, 'an account is found, to the last digit');
	seen('#account', qr/Open holds\s+Hold\s+Amount\s+Expires\s+hold-1\s+7\s/, 'with its open hold');
	seen('#account', qr/Statement.*\+9,007,199,254,740,993\s+9,007,199,254,740,993\s+0\s+event\s+large · <img src=x/s, 'and its statement');
	isnt($browser->run('return document.title'), 'caught', 'what stands in a note is never run');
	is($browser->run('return document.querySelectorAll("img").length'), 0, 'nor becomes an element');
	look_up('nobody');
	seen('#account', qr/^nobody: /, 'one that is not there is said not to be');
	# The browser itself notes each answer of 404.
	is_deeply([grep { !/status of 404/ } $browser->errors], [], 'without an error of its own');
	return;
}

sub test_chart {
	my $painted = 'const canvas = document.getElementById(arguments[0]), all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;'
		. 'const probe = document.createElement("p"); probe.className = arguments[1]; document.body.append(probe);'
		. 'const [red, green, blue] = getComputedStyle(probe).color.match(/\d+/g).map(Number); probe.remove(); let count = 0;'
		. 'for (let i = 0; i < all.length; i += 4) if (all[i + 3] > 200 && Math.abs(all[i] - red) + Math.abs(all[i + 1] - green) + Math.abs(all[i + 2] - blue) < 12) count++;'
		. 'return count';
	for my $line (['rates', 'median'], ['latencies', 'median'], ['latencies', 'most']) {
		comes { call('POST', '/events', { account => 'drawn', amount => 1 }); $browser->run($painted, @$line) > 0 } 15, "$line->[0]: a line is drawn ($line->[1])";
	}
	return;
}

sub test_death {
	# The worker that serves the feed, whichever it is: all of them, in turn.
	my $before = $browser->text('#respawns');
	for my $worker (map { $_->{pid} } $tallyd->children('worker')) {
		kill KILL => $worker;
		comes { $tallyd->serves && !grep { $_->{pid} == $worker } $tallyd->children('worker') } 10, 'a worker dies and is replaced';
	}
	use_daemon($tallyd);
	seen('#respawns', qr/^Replaced after their death: worker 2\./, 'the page says so');
	call('POST', '/events', { account => 'bob', amount => 1, id => 'beyond' });
	seen('#feed', qr/beyond/, 'and follows the feed again');
	seen('#following', qr/^following$/, 'as it says');
	$browser->errors; # that connections were lost
	return;
}

# Workers that are stopped still take connections, and answer nothing.
sub test_wedge {
	my @stopped = map { $_->{pid} } $tallyd->children('worker');
	kill STOP => @stopped;
	seen('#health', qr/^no answer$/, 'nobody answers, and the page says so');
	is($browser->run('return document.getElementById("health").className'), 'pill bad', 'in the colour for it');
	seen('#following', qr/^lost; trying again$/, 'that the feed is lost, too');
	is($browser->run('return getComputedStyle(document.querySelector(".tiles")).opacity'), '0.5', 'and which figures are old');
	kill CONT => @stopped;
	use_daemon($tallyd);
	seen('#health', qr/^taking updates$/, 'it is over');
	seen('#following', qr/^following$/, 'for the feed as well');
	is($browser->run('return getComputedStyle(document.querySelector(".tiles")).opacity'), '1', 'and the figures are new');
	return;
}

# A feed whose connection is dead without a word, while all else is answered.
sub test_silence {
	$browser->run(<<'JS');
const real = window.fetch;
window.fetch = (path, options) => {
	if (!path.startsWith("/feed")) return real(path, options);
	window.fetch = real;
	window.silent = true;
	return Promise.resolve(new Response(new ReadableStream({
		start: stream => options.signal.addEventListener("abort", () => stream.error(options.signal.reason)),
	})));
};
JS
	# The feed that is followed ends with the worker that serves it.
	kill KILL => $_->{pid} for $tallyd->children('worker');
	comes { $tallyd->serves && $browser->run('return window.silent === true') } 10, 'the feed is one that says nothing';
	use_daemon($tallyd);
	seen('#following', qr/^following$/, 'which looks as if nothing were going on');
	call('POST', '/events', { account => 'bob', amount => 1, id => 'unheard' });
	comes { ($browser->text('#feed') // '') =~ /unheard/ } SILENCE + 10, 'until it has been silent for too long: then it is asked for again, where it was';
	seen('#following', qr/^following$/, 'and followed');
	$browser->errors;    # that connections were lost
	return;
}

# What the page was at is no longer kept when its feed comes back.
sub test_gap {
	$browser->run(<<'JS');
const real = window.fetch;
window.fetch = (path, options) => {
	if (!/^\/feed\?.*after=/.test(path)) return real(path, options);
	window.fetch = real;
	return Promise.resolve(new Response('{"reason":"pruned","first":"4096"}', { status: 410 }));
};
JS
	kill KILL => $_->{pid} for $tallyd->children('worker');
	seen('#feed', qr/^\s*Time.*\n\s*what came meanwhile is no longer kept\s/, 'a gap is shown where it is');
	comes { $tallyd->serves } 10, 'the workers are back';
	use_daemon($tallyd);
	seen('#following', qr/^following$/, 'and the feed goes on from now');
	call('POST', '/events', { account => 'bob', amount => 1, id => 'behind' });
	seen('#feed', qr/behind\s+what came meanwhile is no longer kept/, 'above the gap');
	$browser->errors;    # that connections were lost
	return;
}

# Connections of STATE that the daemon has.
sub connections {
	my ($state) = @_;
	my $sum = 0;
	$sum += $_ for call('GET', '/metrics')->{body} =~ /^tallyd_connections\{[^}]*state="$state"\} (\d+)$/mg;
	return $sum;
}

sub requests { return call('GET', '/metrics')->{body} =~ m{^tallyd_requests_total\{method="GET",endpoint="/healthz",status="200"\} (\d+)$}m ? $1 : 0 }

# A browser has six connections for all its tabs: who is not seen keeps none.
sub test_hidden {
	my $first = $browser->tab;
	my @others;
	comes { connections('streaming') == 1 } 5, 'a page that is seen holds a feed';
	push @others, $browser->open_tab;
	comes { connections('streaming') == 0 } 5, 'one that is hidden does not';
	my $before = requests();
	sleep 4 * EVERY;
	cmp_ok(requests() - $before, '<=', 1, 'and asks for nothing, but what was under way');
	call('POST', '/events', { account => 'bob', amount => 1, id => 'unseen' });
	for my $page (2 .. TABS) {
		push @others, $browser->open_tab if $page > 2;
		$browser->go($tallyd->url . '/');
		seen('#health', qr/^taking updates$/, "page $page of a browser is served");
	}
	seen('#following', qr/^following$/, 'and its feed');
	$browser->close_tab($others[-2]), pop @others while @others > 1;
	$browser->close_tab($first);
	seen('#feed', qr/unseen/, 'the first one goes on where it was');
	seen('#following', qr/^following$/, 'as it says');
	comes { connections('streaming') == 1 } 5, 'with one feed';
	$before = $browser->open_tab;
	# More than the page would read to catch up: a record of it is longer than its line.
	for my $round (1 .. 10) {
		$tallyd->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'],
			join '', map { sprintf qq({"account":"many","amount":1,"note":"%s"}\n), 'x' x 200 } 1 .. FAR / 10 / 200);
	}
	$browser->close_tab($first);
	seen('#feed tbody', qr/^much came meanwhile that is not shown\s/, 'unless that was long ago');
	call('POST', '/events', { account => 'bob', amount => 1, id => 'nearby' });
	seen('#feed tbody', qr/nearby\s+much came meanwhile that is not shown\s/, 'then it goes on from now');
	return;
}

sub test_looks {
	my $light = $browser->run('return getComputedStyle(document.body).backgroundColor');
	$browser->set('Emulation.setEmulatedMedia', features => [{ name => 'prefers-color-scheme', value => 'dark' }]);
	isnt($browser->run('return getComputedStyle(document.body).backgroundColor'), $light, 'there is a dark one');
	look_up('alice');
	seen('#account', qr/Statement/, 'with an account');
	is($browser->run('return document.documentElement.scrollWidth - document.documentElement.clientWidth'), 0, 'nothing is wider than a desk\'s window');
	$browser->set('Emulation.setDeviceMetricsOverride', width => PHONE, height => 740, deviceScaleFactor => 2, mobile => JSON::PP::true);
	comes { $browser->run('return document.documentElement.scrollWidth') == PHONE } 5, 'nor than a phone';
	cmp_ok($browser->run('return parseFloat(getComputedStyle(document.querySelector("#feed td")).fontSize)'), '>=', 12, 'where it can be read');
	return;
}

# A daemon that asks for tokens: the form is there as long as something is not given, and then no more.
sub test_tokens {
	my $dir = File::Temp::tempdir('tallyd-console-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %secret = map { $_ => "secret-of-$_-" . '0' x 30 } qw(whole part);
	open my $out, '>', "$dir/tokens" or die "$dir/tokens: $!";
	chmod 0600, "$dir/tokens" or die "$dir/tokens: $!";
	print {$out} 'whole ', sha256_hex($secret{whole}), " read\n", 'part ', sha256_hex($secret{part}), " read prefix=part/\n";
	close $out or die "$dir/tokens: $!";
	my $guarded = Tallyd->start(config => { workers => 1, auth_file => "$dir/tokens" });
	$browser->go($guarded->url . '/');
	comes { shown('#unlock') } 10, 'who has no token is asked for one';
	seen('#locked', qr/^tallyd asks for one\.$/, 'and told why');
	$browser->type('#token', $secret{part});
	$browser->click('#unlock button');
	seen('#locked', qr/^It does not permit all of this: /, 'one with a prefix does not suffice');
	seen('#following', qr/^following$/, 'though the feed is permitted');
	$browser->run('const form = document.getElementById("unlock"); window.hid = 0; new MutationObserver(() => { if (form.hidden) window.hid++; }).observe(form, { attributes: true })');
	look_up('part/of-it');
	seen('#account', qr{^part/of-it: }, 'and so are some accounts');
	is($browser->run('return window.hid'), 0, 'which does not take the form away from who types');
	$browser->type('#token', $secret{whole});
	$browser->click('#unlock button');
	seen('#accounts', qr/^0$/, 'one without does');
	comes { !shown('#unlock') } 5, 'and is not asked for again';
	$browser->go($tallyd->url . '/');
	seen('#following', qr/^following$/, 'the other one still asks for none');
	is($guarded->stop, 0, 'that daemon stops');
	$browser->errors;    # what was not permitted
	return;
}

sub test_end {
	my $status = $tallyd->stop;
	is($status, 0, 'it stops, with a feed that is followed');
	seen('#health', qr/^no answer$/, 'and the page says that nobody answers');
	ok($tallyd->start_again, 'it comes back');
	seen('#health', qr/^taking updates$/, 'and so does the page');
	use_daemon($tallyd);
	call('POST', '/events', { account => 'bob', amount => 1, id => 'reborn' });
	seen('#feed', qr/reborn/, 'with the feed');
	return;
}

test_load;
test_tokens;
test_feed;
test_filter;
test_account;
test_chart;
test_death;
test_wedge;
test_silence;
test_gap;
test_hidden;
test_looks;
test_end;
$browser->screenshot($ENV{TALLYD_SCREENSHOT}) if $ENV{TALLYD_SCREENSHOT};
undef $browser;
is($tallyd->stop, 0, 'it stops');
done_testing;
