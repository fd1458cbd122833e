#!/usr/bin/perl
# How much of the journal is kept: all, days, or a size; never less than recovery and the ids need.
# What was removed is missing from statements, which say so.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Redis;
use Tallyd qw(send_all wait_until);
use Test::More;
use Time::HiRes qw(sleep);

use constant {
	SEGMENT => 256 * 1024,    # bytes
	ROUND   => 3_000_000,    # bytes of journal between two looks: beyond a seal, beyond a snapshot
	BATCH   => 50,           # operations of a write, each a record of over 2 KiB
};

my $tallyd;
my $legs = join ',', '{"account":"filler","amount":1}', map { sprintf '{"account":"%0100d","amount":1}', $_ } 1 .. 15;

sub start {
	my (%config) = @_;
	$tallyd = Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'redis' }]], config => { workers => 2, max_accounts => 1000, max_ids => 100_000, ring_size => '4M',
			journal_segment => SEGMENT, snapshot_every => '1M', id_window => '1s', sync => 'interval', %config });
	use_daemon($tallyd);
	return;
}

sub segments { return sort glob $tallyd->data_dir . '/journal/*.journal' }
sub first_lsn { return hex((segments())[0] =~ m{([0-9a-f]{16})\.journal$} ? $1 : die 'no segment') }
sub statement { return call('GET', $_[0])->{json} }

# Reads BATCH answers as quickly as can be; the last LSN, undef if all were refused: small segments
# are used up faster than they are made.
sub last_lsn {
	my ($socket) = @_;
	my ($answers, $count, $lsn) = ('', 0);
	while ($count < BATCH) {
		my $got = wait_until { sysread $socket, $answers, 1 << 20, length $answers } 10;
		die "no answer: $!" unless $got;
		my $end = 0;
		while ($answers =~ /"lsn":"(\d+)"\}|("queue_full")|("status":"error".*)/g) {
			die $3 if $3;
			$lsn = $1 if defined $1;
			$end = pos $answers;
			$count++;
		}
		$answers = substr $answers, $end;
	}
	return $lsn;
}

# Journal of at least BYTES more.
my $filled = 0;
sub fill {
	my ($bytes) = @_;
	my $socket = $tallyd->connection;
	my $end;
	while (1) {
		my $text = '';
		for (1 .. BATCH) {
			my $body = sprintf '{"legs":[%s],"id":"fill-%d"}', $legs, ++$filled;
			$text .= "POST /transactions HTTP/1.1\r\nHost: a\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
		}
		send_all($socket, $text);
		my $lsn = last_lsn($socket);
		next unless defined $lsn;
		$end = $lsn + $bytes unless defined $end;
		return $lsn if $lsn >= $end;
	}
}

# Fills until another snapshot has been written, TIMES times; true if that worked.
sub snapshots {
	my ($times) = @_;
	for (1 .. $times) {
		my $mark = $tallyd->log_mark;
		fill(ROUND);
		$tallyd->wait_log(qr/snapshot at position/, 20, $mark) or return 0;
	}
	return 1;
}

# The same until segments have been removed, at most TIMES times.
sub removed {
	my ($times) = @_;
	for (1 .. $times) {
		snapshots(1) or return 0;
		return 1 if wait_until { first_lsn() > 0 } 0.5;
	}
	return 0;
}

sub statement_ends {
	my $path = '/accounts/filler/events?limit=100';
	my ($page, $balance);
	for (1 .. 2000) {
		$page = statement($path);
		for my $entry (@{ $page->{events} }) {
			die "balance $entry->{balance} after $balance" if defined $balance && $entry->{balance} != $balance - 1;
			$balance = $entry->{balance};
		}
		last unless defined $page->{next};
		$path = $page->{next};
	}
	return ($page, $balance);
}

sub test_all {
	start(journal_keep => 'all');
	ok(snapshots(3), 'three snapshots were written');
	is(first_lsn(), 0, 'all: nothing is removed');
	my ($page, $balance) = statement_ends();
	is($balance, 1, 'the statement is whole');
	ok(!exists $page->{pruned}, 'and says nothing else');
	return;
}

# Goes on with the daemon of test_all.
sub test_days {
	$tallyd->set_config(journal_keep => '1d');
	my $mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: /, 20, $mark), 'a day');
	ok(snapshots(2), 'two snapshots were written');
	is(first_lsn(), 0, 'what is younger than a day stays');
	$tallyd->stop;
	return;
}

# The account's present needs no record.
my @dormant;    # its only two, both gone
sub test_dormant {
	my ($first, $second) = @dormant;
	my $path = '/accounts/dormant?at=';
	for my $at ($second->{lsn}, $second->{time}, '18446744073709551615', '9999-12-31T23:59:59.000000Z') {
		is_deeply(call('GET', $path . $at)->{json}, { account => 'dormant', balance => 4, held => 0, version => 2,
				lsn => $second->{lsn}, updated => $second->{time}, at => $at }, "what it has been since its newest change: $at");
	}
	refused(['GET', $path . $_], 410, 'pruned', "what it was before is not known: $_")
		for $first->{lsn}, $second->{lsn} - 1, $first->{time};
	refused(['GET', $path . '2001-01-01T00:00:00Z'], 404, 'unknown_account', 'before it was made it was not there');
	return;
}

# Redis' protocol says likewise where a statement ends.
sub test_redis {
	my ($pruned, $old) = @_;
	my $redis = Redis->new($tallyd->address(1));
	my ($reply, $last);
	# Where a page ends just there, it is the next one that says so.
	for my $limit (50, 49) {
		my $before = 0;
		while (1) {
			my $next = $redis->ask('TALLY.STATEMENT', 'filler', 'LIMIT', $limit, 'BEFORE', $before);
			last unless ref $next eq 'ARRAY' && @$next;
			$reply = $next;
			$last = { @{ $reply->[-1] } };
			$before = $last->{lsn};
		}
		last if $last->{type} eq 'pruned';
	}
	is_deeply($last, { lsn => $pruned, type => 'pruned' }, 'TALLY.STATEMENT: the last map says what is missing');
	cmp_ok(scalar @$reply, '>', 1, 'behind what there is');
	like(Redis::show($redis->ask('TALLY.STATEMENT', 'filler', 'BEFORE', $pruned)), qr/^error\(PRUNED /, 'before it there is nothing');
	like(Redis::show($redis->ask('TALLY.STATEMENT', 'old')), qr/^error\(PRUNED /, 'nor of who was not touched since');
	like(Redis::show($redis->ask('TALLY.STATEMENT', 'nobody')), qr/^error\(UNKNOWN_ACCOUNT /, 'nobody has none');
	$redis->ask('INCRBY', 'new', 1);
	is(Redis::show([map { my %of = @$_; $of{type} } @{ $redis->ask('TALLY.STATEMENT', 'new') }]), '["event"]', 'a whole one says nothing of it');
	return;
}

sub settle_some {
	call(@{ event('holder', 50) });
	call('POST', '/holds', { account => 'holder', amount => 10, ttl => 86_400, id => $_ }) for qw(taken freed);
	call('POST', '/holds/taken/capture', { amount => 4 });
	call('POST', '/holds/freed/release');
	return;
}

# A hold outlives the records of it.
sub test_settled {
	my $lsn = call('GET', '/holds/taken')->{json}{lsn};
	my %taken = (hold => 'taken', state => 'captured', captured => 4, settled_lsn => $lsn);
	refused(['POST', '/holds/taken/capture', { amount => $_ }], 409, 'hold_settled', "settled with 4, asked for $_", \%taken)
		for 4, 5;
	refused(['POST', '/holds/freed/release'], 409, 'hold_settled', 'one that was freed',
		{ state => 'released', captured => 0 });
	my @again = map { refused(['POST', '/holds/taken/capture', { amount => 4, id => 'take' }], 409, 'hold_settled',
			'the same with an id of its own', \%taken) } 1 .. 2;
	is($again[1]{headers}{'idempotent-replayed'}, 'true', 'which stands for that answer');
	refused(['POST', '/holds/taken/capture', { amount => 5, id => 'take' }], 422, 'id_reused', 'and for nothing else');
	is(balances('holder'), '46', 'it was captured once');
	return;
}

sub test_size {
	start(journal_keep => '64K', max_accounts => 1000);
	call(@{ event('old', 7, id => 'old') });
	my $old = statement('/accounts/old/events')->{events}[0]{lsn};
	call(@{ event('dormant', 3) });
	sleep 0.01;    # so that its times differ
	call(@{ event('dormant', 1) });
	@dormant = reverse @{ statement('/accounts/dormant/events')->{events} };
	settle_some();
	ok(removed(8), 'a size: old segments are removed');
	ok($tallyd->wait_log(qr/old segment\(s\) of \d+ bytes removed, it begins at position \d+/, 5), 'which is logged');
	my ($page, $balance) = statement_ends();
	cmp_ok($balance, '>', 1, 'a statement goes back to what is kept');
	cmp_ok($page->{pruned} || 0, '>', 0, 'and says where it ends');
	cmp_ok($page->{pruned}, '<', first_lsn(), 'which lies before what is kept');
	is($page->{next}, undef, 'there is no next page');
	is_deeply(statement('/accounts/old/events'), { account => 'old', events => [], next => undef, pruned => $old },
		'an account that was not touched since has an empty one');
	refused(['GET', "/accounts/filler?at=$page->{pruned}"], 410, 'pruned', 'a balance of then is not known any more');
	my $made = statement('/accounts/filler')->{created};
	refused(['GET', "/accounts/filler?at=$made"], 410, 'pruned', 'likewise');
	refused(['GET', '/accounts/filler?at=2001-01-01T00:00:00Z'], 404, 'unknown_account', 'before it was made it was not there');
	is_deeply(statement('/accounts/dormant/events')->{events}, [], 'nothing is kept of a dormant account');
	test_dormant();
	refused(['GET', '/accounts/old?at=' . ($old - 1)], 404, 'unknown_account', 'one that changed only once was not there before');
	is($tallyd->balance('old'), 7, 'the balance is');
	refused(event('old', 7, id => 'old'), 409, 'id_forgotten', 'an id whose record is gone is not applied again');
	is($tallyd->balance('old'), 7, 'really');
	test_settled();
	test_redis($page->{pruned}, $old);
	return;
}

sub test_recovery {
	my $before = $tallyd->balance('filler');
	my $first = first_lsn();
	$tallyd->kill9;
	$tallyd->start_again;
	use_daemon($tallyd);
	is(balances('old', 'filler'), "7 $before", 'recovery from what is kept');
	test_dormant();
	my ($page) = statement_ends();
	cmp_ok($page->{pruned}, '>', 0, 'statements still say where they end');
	is($tallyd->stop, 0, 'stopped');
	# The older snapshot must be enough, too.
	my @snapshots = sort glob $tallyd->data_dir . '/snapshots/*.snapshot';
	is(scalar @snapshots, 2, 'there are two snapshots');
	open my $file, '+<', $snapshots[-1] or die "$snapshots[-1]: $!";
	seek $file, -20, 2;
	print {$file} 'damage';
	close $file or die $!;
	$tallyd->start_again;
	use_daemon($tallyd);
	ok($tallyd->wait_log(qr/damaged snapshot/, 5), 'the newer one is damaged');
	is(balances('old', 'filler'), "7 $before", 'the older one and the journal are enough');
	is($tallyd->stop, 0, 'stopped');
	return;
}

sub test_window {
	start(journal_keep => '64K', id_window => '24h');
	gives(event('old', 7, id => 'old'), 200, { balance => 7 }, 'an id');
	ok(snapshots(3), 'three snapshots were written');
	is(first_lsn(), 0, 'what the id window needs is not removed');
	my $again = gives(event('old', 7, id => 'old'), 200, { balance => 7 }, 'so that the id is still answered the same');
	is($again->{headers}{'idempotent-replayed'}, 'true', 'as a replay');
	is($tallyd->stop, 0, 'stopped');
	return;
}

test_all();
test_days();
test_size();
test_recovery();
test_window();
done_testing();
