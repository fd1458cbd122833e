#!/usr/bin/perl
# GET /feed over deaths, reloads, restarts and segments: who comes back with the last id that he was
# told has missed nothing, and seen nothing twice.  And over what is no longer kept.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(time sleep);
use Check;
use Feed;
use Hammer;
use Tallyd qw(wait_until patience);

my $tallyd = use_daemon(Tallyd->start(config => { workers => 2, ring_size => '1M', journal_segment => '256K',
	snapshot_every => '4M', respawn_backoff => 0 }));

# ---- one reader, who comes back

my ($feed, $last, %version, $events, $returns) = (undef, 0);
my @wrong;

# Every amount is 1, so the balance is the version; each is one more than the one before.
sub look_at {
	for my $event (@_) {
		my $leg = $event->{legs}[0];
		my $wanted = ($version{ $leg->{account} } || 0) + 1;
		push @wrong, "$leg->{account} $leg->{version} at $event->{lsn}, not $wanted"
			if $leg->{version} != $wanted || $leg->{balance} != $wanted;
		push @wrong, "$event->{lsn} after $last" if $event->{lsn} <= $last;
		$version{ $leg->{account} } = $leg->{version};
		$last = $event->{lsn};
		$events++;
	}
	return;
}

sub connect_again {
	my $id = $feed ? $feed->{id} : undef;
	$returns++;
	return $feed = wait_until {
		my $new = eval { Feed->open($tallyd, '?after=0', defined $id ? { 'Last-Event-ID' => $id } : {}) };
		return $new && $new->{head}{status} == 200 && $new;
	};
}

# Reads for SECONDS.
sub follow {
	my ($seconds) = @_;
	my $end = time + $seconds;
	while (time < $end) {
		connect_again() or return fail('a feed can be had again') if !$feed || $feed->{clean} || $feed->{closed};
		look_at($feed->take_for(0.02));
		$last = $feed->{id} if defined $feed->{id} && $feed->{id} > $last;
	}
	return;
}

sub children { return map { $_->{pid} } $tallyd->children($_[0]) }

my $hammer = Hammer->start($tallyd, connections => 4, depth => 4, accounts => 20, prefix => 'h');
my %act = (
	workers => sub { kill 'KILL', children('worker') },
	journal => sub { kill 'KILL', children('journal') },
	reload  => sub { $tallyd->hup },
);
follow(0.2);
for my $act (qw(workers journal workers reload journal workers)) {
	my ($had, $end) = ($returns, time + 10 * patience());
	$act{$act}->();
	follow(0.3);
	# A journal writer's death is none of a reader's business.
	follow(0.1) while $act ne 'journal' && $returns == $had && time < $end;
}
cmp_ok($events, '>', 1000, "events while processes die: $events");
is(join("\n", @wrong[0 .. ($#wrong < 4 ? $#wrong : 4)]), '', 'each once, in order, none missing');
cmp_ok($returns, '>=', 5, "by a reader who came back ($returns connections)");

is($tallyd->stop, 0, 'a drain under load');
follow_end();
$tallyd->start_again;
follow(0.3);
$tallyd->kill9;
follow_end();
$tallyd->start_again;
follow(0.3);
my $told = $hammer->finish;
is(join(' ', Hammer::oddities($told)), '', 'the writer was answered as always');
use_daemon($tallyd);
event('end', 1);
my $final = gives(event('end', 1), 200, {}, 'the last event')->{json}{lsn};
ok($feed->until_true(20, sub {
	connect_again() if $feed->{clean} || $feed->{closed};
	look_at(splice @{ $feed->{events} });
	return $last >= $final;
}), 'comes');
is(join("\n", @wrong[0 .. ($#wrong < 4 ? $#wrong : 4)]), '', 'over restarts as well: nothing missing, nothing twice');
my $balances = join ' ', map { "$_=" . ($version{$_} || 0) } sort keys %version;
is($balances, join(' ', map { "$_=" . ($tallyd->balance($_) || 0) } sort keys %version), 'and all of it came');
my @segments = glob $tallyd->data_dir . '/journal/*.journal';
cmp_ok(scalar @segments, '>', 2, 'over ' . @segments . ' segments');
my $count = 0;
my $whole = Feed->open($tallyd, '?follow=false&format=ndjson');
$count++ for $whole->rest(30);
is($count, $events, 'from the files once more: as many');

# What the connection had before its end.
sub follow_end {
	$feed->ended;
	look_at(splice @{ $feed->{events} });
	$last = $feed->{id} if defined $feed->{id} && $feed->{id} > $last;
	return;
}
is($tallyd->stop, 0, 'stopped');

# ---- what is no longer kept

$tallyd = use_daemon(Tallyd->start(config => { workers => 1, ring_size => '1M', journal_segment => '256K',
	snapshot_every => '1M', journal_keep => '512K', id_window => '1s', max_ids => 1000, sync => 'interval' }));

my $many = '[' . join(',', ('{"account":"filler","amount":1}') x 1000) . ']';
sub fill { call('POST', '/events', $many) for 1 .. 5; return }
sub first_kept { my ($file) = sort glob $tallyd->data_dir . '/journal/*.journal'; return hex $file =~ s{.*/}{}r =~ s/\..*//r }

my $early = gives(event('alice', 1), 200, {}, 'the first event')->{json}{lsn};
fill() for 1 .. 2;
# Reads nothing until what it has not got is gone.
my $slow = Feed->open($tallyd, '?after=0', {}, no_wait => 1);
my $lines = Feed->open($tallyd, '?after=0&format=ndjson', {}, no_wait => 1);
my $begin = first_kept();
ok(wait_until(sub { fill(); first_kept() > $begin + 1_500_000 }, 40), 'the journal is pruned');
# What is written by now may be due for one more snapshot, after which more goes.
ok(wait_until(sub {
	my $now = first_kept();
	for (1 .. 30) {
		return 0 if $tallyd->children('snap') || first_kept() != $now;
		sleep 0.02;
	}
	return 1;
}, 20), 'and that comes to rest');
my $gone = refused(['GET', "/feed?after=$early"], 410, 'pruned', 'who wants what is gone is refused');
cmp_ok($gone->{json}{first}, '>', $early, 'and told what is left');
is(call('GET', "/feed?after=$early", undef, { Accept => 'application/problem+json' })->{json}{first},
	$gone->{json}{first}, 'as a problem too');
my ($first) = Feed->open($tallyd, '?after=0')->take(1);
cmp_ok($first->{lsn}, '>=', $gone->{json}{first}, 'after=0 begins there');
is(Feed->open($tallyd, '?after=' . ($gone->{json}{first} - 1))->{head}{status}, 200, 'so does the LSN before it');

for ($slow, $lines) {
	$_->_head;
	my @got = $_->rest(20);
	ok($_->{clean}, 'who was too slow gets a clean end');
	is($got[0]{lsn}, $early, 'after what it had begun with');
	is(scalar(grep { $got[$_]{legs}[0]{account} eq 'filler' && $got[$_]{legs}[0]{version} != $got[$_ - 1]{legs}[0]{version} + 1 } 2 .. $#got),
		0, scalar(@got) . ' events without a gap');
	is($_->{named}[0][0], 'pruned', 'and is told why');
	cmp_ok($_->{named}[0][1]{first}, '>', $got[-1]{lsn}, 'and what is left');
}
is($tallyd->stop, 0, 'stopped');
done_testing();
