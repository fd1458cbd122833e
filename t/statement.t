#!/usr/bin/perl
# Statements: what has happened to an account, the newest first, page by page, and what its balance
# was at any moment.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use JSON::PP qw(encode_json);
use POSIX qw(strftime);
use Tallyd qw(read_response send_all);
use Test::More;
use Time::HiRes qw(time);

use constant LONG => 2500;    # events: several slices of a walk

my $tallyd = Tallyd->start(config => { max_accounts => 2000 });
use_daemon($tallyd);

sub statement { return call('GET', $_[0])->{json} }

# All entries from PATH on, following the links; dies if there are too many pages.
sub entries {
	my ($path) = @_;
	my (@entries, $pages);
	while (defined $path) {
		die "too many pages" if ++$pages > 200;
		my $page = statement($path);
		push @entries, @{ $page->{events} };
		$path = $page->{next};
	}
	return (\@entries, $pages);
}

# The faults of ENTRIES, a whole statement: each adds up with the one before it.
sub faults {
	my ($entries) = @_;
	my ($balance, $version, $lsn) = (0, 0, 0);
	my @faults;
	for my $entry (reverse @$entries) {
		$balance += $entry->{amount};
		push @faults, "$entry->{lsn}: balance $entry->{balance}, not $balance" if $entry->{balance} != $balance;
		push @faults, "$entry->{lsn}: version $entry->{version}" if $entry->{version} != ++$version;
		push @faults, "$entry->{lsn}: order" if $entry->{lsn} <= $lsn;
		$lsn = $entry->{lsn};
	}
	return join "\n", @faults;
}

sub test_entries {
	call('POST', '/accounts', { account => 's/1', floor => 0, note => 'made' });
	call(@{ event('s/1', 100, id => 'e-1', note => "caf\x{e9} \"1\"") });
	call('POST', '/transfers', { from => 's/1', to => 'other', amount => 30 });
	call('POST', '/holds', { account => 's/1', amount => 20, ttl => 600, id => 'hold' });
	call('POST', '/holds/hold/capture', { amount => 15, to => 'other' });
	call('POST', '/transactions', { legs => [{ account => 's/1', amount => -1 }, map { { account => "x$_", amount => 1 } } 1 .. 2] });
	call('PUT', '/accounts/s%2F1', { floor => 0, ceiling => 500 });
	call(@{ event('s/1', -1000) });
	call(@{ event('s/1', 0, id => 'nothing') });
	my $answer = call('GET', '/accounts/s%2F1/events');
	my ($page, @events) = ($answer->{json}, @{ $answer->{json}{events} });
	is($page->{account}, 's/1', 'GET /accounts/NAME/events');
	is(join(' ', map { $_->{type} } @events), 'replace transaction capture hold transfer event create',
		'the newest first, and neither refusals nor what changed nothing');
	is(join(' ', map { "$_->{amount}:$_->{balance}:$_->{held}" } @events),
		'0:54:0 -1:54:0 -15:55:0 0:70:20 -30:70:0 100:100:0 0:0:0', 'amount, balance and held after each');
	is_deeply([map { $_->{version} } @events], [reverse 1 .. 7], 'each a version');
	is($events[4]{counterparty}, 'other', 'a transfer names the other account');
	is($events[2]{counterparty}, 'other', 'so does a capture');
	is("$events[2]{hold} $events[3]{hold}", 'hold hold', 'and the hold');
	is($events[5]{id}, 'e-1', 'the id');
	is($events[5]{note}, "caf\x{e9} \"1\"", 'the note');
	is($events[6]{note}, 'made', 'of a creation too');
	like($events[0]{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'the time');
	is($page->{next}, undef, 'all of it');
	is(faults(\@events), '', 'it adds up');
	my $credit = statement('/accounts/other/events')->{events};
	is("$credit->[0]{amount} $credit->[0]{counterparty}", '15 s/1', 'who receives sees the other side');
	is(call('HEAD', '/accounts/s%2F1/events')->{headers}{'content-length'}, $answer->{headers}{'content-length'}, 'HEAD');
	refused(['GET', '/accounts/none/events'], 404, 'unknown_account', 'of no account');
	return;
}

sub test_pages {
	my ($all) = entries('/accounts/s%2F1/events?limit=100');
	for my $limit (1, 2, 3, 7) {
		my ($entries, $pages) = entries("/accounts/s%2F1/events?limit=$limit");
		is_deeply($entries, $all, "pages of $limit are the same");
	}
	my $page = statement('/accounts/s%2F1/events?limit=2');
	is($page->{next}, "/accounts/s%2F1/events?limit=2&before=$page->{events}[1]{lsn}", 'the link names the last one shown');
	call(@{ event('s/1', 1) });
	is(statement($page->{next})->{events}[0]{version}, 5, 'what comes in between does not shift a page');
	my @lsns = map { $_->{lsn} } @$all;
	is(statement("/accounts/s%2F1/events?before=" . ($lsns[2] + 1))->{events}[0]{lsn}, $lsns[2], 'before any position');
	is(statement("/accounts/s%2F1/events?before=" . ($lsns[2] + 8))->{events}[0]{lsn}, $lsns[2], 'whatever it is');
	is(statement('/accounts/s%2F1/events?before=18446744073709551615')->{events}[0]{version}, 8, 'before the end of time');
	is_deeply(statement("/accounts/s%2F1/events?before=$lsns[-1]"), { account => 's/1', events => [], next => undef },
		'nothing before the first');
	is_deeply(statement('/accounts/s%2F1/events?before=1')->{events}, [], 'nor before that');
	my $elsewhere = statement('/accounts/x1/events')->{events}[0]{lsn};
	is(statement("/accounts/other/events?before=$elsewhere")->{events}[0]{version}, 2, 'before a record of others');
	refused(['GET', "/accounts/s%2F1/events?limit=$_"], 400, 'invalid_limit', "limit=$_") for 0, 101, -1, '1x', '';
	refused(['GET', "/accounts/s%2F1/events?before=$_"], 400, 'invalid_before', "before=$_")
		for 0, -1, 'x', '', '18446744073709551616';
	refused(['GET', '/accounts/s%2F1/events?limit=1&limit=2'], 400, 'invalid_limit', 'two limits');
	return;
}

# ---- moments

sub at { my ($account, $at) = @_; return ['GET', "/accounts/$account?at=$at"] }

sub test_at {
	my ($all) = entries('/accounts/s%2F1/events');
	my @wrong = grep { my $then = call(@{ at('s%2F1', $_->{lsn}) })->{json};
		"$then->{balance} $then->{held} $then->{version} $then->{lsn}" ne "$_->{balance} $_->{held} $_->{version} $_->{lsn}" } @$all;
	is(scalar @wrong, 0, 'the balance at each LSN');
	@wrong = grep { my $then = call(@{ at('s%2F1', $_->{time}) })->{json};
		$then->{version} < $_->{version} || $then->{updated} gt $_->{time} } @$all;
	is(scalar @wrong, 0, 'and at each time');
	my ($newest, $oldest) = ($all->[0], $all->[-1]);
	gives(at('s%2F1', $newest->{lsn} - 1), 200, { version => $newest->{version} - 1, account => 's/1', at => $newest->{lsn} - 1 },
		'between two records: after the older');
	gives(at('s%2F1', '18446744073709551615'), 200, { version => $newest->{version} }, 'in the future: now');
	gives(at('s%2F1', '9999-12-31T23:59:59Z'), 200, { version => $newest->{version}, at => '9999-12-31T23:59:59.000000Z' }, 'likewise');
	refused(at('s%2F1', $oldest->{lsn} - 1), 404, 'unknown_account', 'before it was made');
	refused(at('s%2F1', '2000-01-01T00:00:00Z'), 404, 'unknown_account', 'likewise');
	refused(at('none', 1), 404, 'unknown_account', 'of no account');
	my ($seconds) = $newest->{time} =~ /^(.*)Z$/;
	gives(at('s%2F1', "${seconds}999Z"), 200, { version => $newest->{version} }, 'more digits than we have');
	gives(at('s%2F1', strftime('%Y-%m-%dt%H:%M:%S%%2B02:00', gmtime(time + 7200 + 2))), 200, { version => $newest->{version} },
		'in another zone');
	refused(at('s%2F1', strftime('%Y-%m-%dT%H:%M:%S-00:30', gmtime(time - 7200))), 404, 'unknown_account', 'west of it');
	refused(at('s%2F1', $_), 400, 'invalid_at', "at=$_") for '', 'now', '2026-02-29T00:00:00Z', '2026-11-20',
		'2026-11-20T24:00:00Z', '2026-11-20T20:00:00', '2026-11-20T20:00:00%2B0100', '-1', '18446744073709551616';
	return;
}

sub test_other_lives {
	call('POST', '/accounts', { account => 'twice' });
	my $first = statement('/accounts/twice/events')->{events}[0]{lsn};
	call('DELETE', '/accounts/twice');
	refused(['GET', '/accounts/twice/events'], 404, 'unknown_account', 'an account that was deleted has no statement');
	call('POST', '/accounts', { account => 'twice' });
	call(@{ event('twice', 5) });
	is_deeply([map { $_->{version} } @{ statement('/accounts/twice/events')->{events} }], [2, 1],
		'one that was made again begins anew');
	refused(at('twice', $first), 404, 'unknown_account', 'at a time of its former life too');
	return;
}

# Positions in a former life show nothing of it, be it longer or shorter than the present one, and
# be it over in the same moment.
sub test_former_pages {
	my $make = sub { return map { event('lives', $_ % 2 ? 1 : -1) } 1 .. $_[0] };
	for my $lengths ([6, 3], [4, 8]) {
		my @requests = ($make->($lengths->[0]), ['DELETE', '/accounts/lives'], $make->($lengths->[1]));
		for my $pipelined (0, 1) {
			my @answers = map { $_->{json}{lsn} } $pipelined ? pipelined(@requests) : map { call(@$_) } @requests;
			my @former = splice @answers, 0, $lengths->[0] + 1;
			my $name = "$lengths->[0] records, then $lengths->[1]" . ($pipelined ? ', in one go' : '');
			is(join(' ', map { map { $_->{lsn} } @{ statement("/accounts/lives/events?before=$_")->{events} } } @former), '',
				"nothing of a former life: $name");
			is_deeply([map { $_->{lsn} } @{ (entries('/accounts/lives/events?limit=1'))[0] }], [reverse @answers], 'all of the present one');
			is_deeply([map { statement("/accounts/lives/events?limit=1&before=$_")->{events}[0]{lsn} } @answers],
				[undef, @answers[0 .. $#answers - 1]], 'from wherever it is asked for');
			call(@{ event('lives', -1) }) if $lengths->[1] % 2;
			call('DELETE', '/accounts/lives');
		}
	}
	return;
}

# The answers to REQUESTS, sent at once.
sub pipelined {
	my @requests = @_;
	my $socket = $tallyd->connection;
	send_all($socket, join '', map { my ($method, $path, $object) = @$_;
		my $body = $object ? encode_json($object) : '';
		"$method $path HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body" } @requests);
	return map { read_response($socket) } @requests;
}

# ---- long histories

sub test_long {
	my $socket = $tallyd->connection;
	my $body = '{"account":"long","amount":1}';
	my $request = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
	for (1 .. LONG / 100) {
		send_all($socket, $request x 100);
		read_response($socket) for 1 .. 100;
	}
	my ($entries, $pages) = entries('/accounts/long/events?limit=100');
	is(scalar @$entries, LONG, 'a long statement is whole');
	is($pages, LONG / 100, 'in as many pages as needed');
	is(faults($entries), '', 'and adds up');
	my $oldest = $entries->[-1];
	gives(at('long', $oldest->{lsn}), 200, { balance => 1 }, 'its very beginning, many steps away');
	gives(at('long', $entries->[-7]{time}), 200, {}, 'by time too');
	is(statement('/accounts/long/events?limit=1&before=' . ($entries->[-2]{lsn} + 1))->{events}[0]{version}, 2,
		'a page from any position there');
	is_deeply(statement('/accounts/long/events?limit=1&before=8')->{events}, [], 'or before it');
	my @ahead = map { "GET /accounts/long?at=" . $oldest->{lsn} . " HTTP/1.1\r\nHost: a\r\n\r\n" } 1 .. 5;
	send_all($socket, join '', @ahead);
	is(join(' ', map { read_response($socket)->{json}{balance} } @ahead), '1 1 1 1 1', 'pipelined, in order');
	return;
}

# The journal's files leave the page cache, if dd(1) can ask for that.
sub forget_pages {
	system 'dd', "if=$_", 'iflag=nocache', 'count=0', 'status=none' for glob $tallyd->data_dir . '/journal/*.journal';
	return;
}

sub test_restart {
	my ($before) = entries('/accounts/s%2F1/events');
	is($tallyd->stop, 0, 'stopped');
	$tallyd->start_again;
	use_daemon($tallyd);
	my ($after) = entries('/accounts/s%2F1/events?limit=3');
	is_deeply($after, $before, 'the same after a restart, from the files');
	my ($entries) = entries('/accounts/long/events?limit=100');
	is(scalar @$entries, LONG, 'long ones too');
	forget_pages();
	gives(at('long', $entries->[-1]{lsn}), 200, { balance => 1 }, 'a long walk through what is not in memory');
	forget_pages();
	my ($again) = entries('/accounts/long/events?limit=100');
	is_deeply($again, $entries, 'and a statement');
	return;
}

test_entries();
test_pages();
test_at();
test_other_lives();
test_former_pages();
test_long();
test_restart();
done_testing();
