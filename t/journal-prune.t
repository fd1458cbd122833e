#!/usr/bin/perl
# tallyctl journal prune: the oldest part goes by the daemon's rules, beside the daemon and after it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Ctl qw(ctl ctl_json is_error is_number);
use JSON::PP ();
use Tallyd qw(wait_until);
use Test::More;

use constant { BULK => 16_000 };

my $tallyd = use_daemon(Tallyd->start(config => { workers => 2, journal_segment => '256K', id_window => 1 }));
my @data = ('-d', $tallyd->data_dir);

sub lines { my ($out) = @_; return map { JSON::PP->new->utf8->decode($_) } split /\n/, $out }

sub cat {
	my (@options) = @_;
	my ($status, $out, $err) = ctl('--json', @data, 'journal', 'cat', @options);
	is($status, 0, "cat @options") or diag($err);
	return lines($out);
}

# ---- prune

sub metric { my ($name) = @_; return $tallyd->request('GET', '/metrics')->{body} =~ /^\Q$name\E (\S+)$/m ? $1 : -1 }

sub segments { return map { s{.*/}{}r } sort glob $tallyd->data_dir . '/journal/*.journal' }

sub test_prune {
	my @before = segments();
	is((ctl(@data, 'journal', 'prune'))[0], 2, 'prune: what is to be kept must be said');
	is((ctl(@data, 'journal', 'prune', '--keep-days', 1, '--keep-bytes', 1))[0], 2, '... in one way');
	is((ctl(@data, 'journal', 'prune', '--keep-days', 1, '--before-lsn', 1))[0], 2, '... in one way only');
	like((ctl(@data, 'journal', 'prune', '--before-lsn', 'x'))[2], qr/^tallyctl: --before-lsn: "x" is no such number; allowed: 1 to/, '... as a number');
	my ($status, $json) = ctl_json(@data, 'journal', 'prune', '--keep-bytes', 1);
	is_deeply([$status, @{$json}{qw(status segments kept_for)}], [0, 'done', 0, 'recovery'], 'without snapshots nothing goes');
	# The journal is read from the seal before a snapshot on, and there is one every few MiB.
	my $bulk = join '', map { qq({"account":"bulk","amount":1,"note":"@{['y' x 200]}"}\n) } 1 .. BULK;
	for (1 .. 2) {
		$tallyd->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'], $bulk, deadline => 30);
		ok((wait_until { metric('tallyd_queue_events') == 0 }), 'more is written');
		$tallyd->event('w-1', 1);
		is((ctl(@data, 'snapshot'))[0], 0, 'a snapshot');
	}
	@before = segments();
	($status, $json) = ctl_json(@data, 'journal', 'prune', '--keep-days', 1);
	is_deeply([$status, @{$json}{qw(segments kept_for)}], [0, 0, 'retention'], 'what is young stays');
	my $pruned;
	ok((wait_until { ($status, $pruned) = ctl_json(@data, 'journal', 'prune', '-n', '--keep-bytes', 1); $pruned->{kept_for} eq 'recovery' } 10), 'when all ids are old enough');
	is_number($pruned, 'first');
	is($pruned->{status}, 'rehearsed', '... it says what would go');
	is_deeply([segments()], \@before, '... and nothing goes');
	# A segment's name is its position: what lies before the third is two segments, less by one is one.
	my $third = hex $before[2] =~ s/\..*//r;
	my $asked = sub { my ($lsn) = @_; my (undef, $said) = ctl_json(@data, 'journal', 'prune', '-n', '--before-lsn', $lsn); return [@{$said}{qw(segments kept_for)}] };
	is_deeply($asked->($third), [2, 'retention'], '--before-lsn: whole segments before it');
	is_deeply($asked->($third - 1), [1, 'retention'], '... and not one that it is in');
	is_deeply($asked->(1 << 50), [$pruned->{segments}, 'recovery'], '... and nothing that is needed');
	my (undef, $out) = ctl(@data, 'journal', 'prune', '--keep-bytes', 1);
	like($out, qr/journal: $pruned->{segments} segments of .* were removed; it begins at position $pruned->{first} now: the first segment stays because/, 'prune, for people');
	is_deeply([segments()], [@before[$pruned->{segments} .. $#before]], 'just that is gone');
	is((ctl(@data, 'journal', 'check'))[0], 0, 'what is left is sound');
	is_error([@data, 'journal', 'cat', '-s', 4096], 1, 'failed', qr/is not kept: the journal begins at \Q$pruned->{first}\E/, 'cat says what is gone');
	cmp_ok(scalar(cat()), '>', 0, 'and tells what is there');
	is($tallyd->event('w-1', 1)->{status}, 200, 'the daemon goes on');
	is($tallyd->stop, 0, '... and stops');
	($status, $json) = ctl_json(@data, 'journal', 'prune', '--keep-bytes', 1, '-w', 1);
	is($status, 0, 'of one that is stopped');
	is((ctl(@data, 'journal', 'check'))[0], 0, '... what is left is sound');
	$tallyd->start_again;
	use_daemon($tallyd);
	is($tallyd->balance('w-1'), 3, 'and it starts from that');
	return;
}

test_prune();
done_testing;
