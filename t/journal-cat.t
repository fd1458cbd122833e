#!/usr/bin/perl
# tallyctl journal cat: every operation once and in order, beside the daemon and after it, and from any
# position on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Ctl qw(ctl is_error tallyctl);
use File::Temp qw(tempdir);
use JSON::PP ();
use Tallyd qw(slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep);

use constant { WRITERS => 2, EACH => 800, PAGE => 50 };

my $dir = tempdir(CLEANUP => 1);
my $tallyd = use_daemon(Tallyd->start(config => { workers => 2, journal_segment => '256K', id_window => 1 }));
my @data = ('-d', $tallyd->data_dir);

sub lines { my ($out) = @_; return map { JSON::PP->new->utf8->decode($_) } split /\n/, $out }

sub cat {
	my (@options) = @_;
	my ($status, $out, $err) = ctl('--json', @data, 'journal', 'cat', @options);
	is($status, 0, "cat @options") or diag($err);
	return lines($out);
}

# ---- what it says

sub test_lines {
	gives(['PUT', '/accounts/ann', { floor => -5, frozen => 'none' }], 201, {}, 'an account');
	gives(event('ann', 30, id => 'e-1', note => "a note"), 200, {}, 'an event');
	gives(['POST', '/transfers', { from => 'ann', to => 'bea', amount => 3 }], 200, {}, 'a transfer');
	gives(['POST', '/holds', { account => 'ann', amount => 7, ttl => 600, id => 'h-1' }], 201, {}, 'a hold');
	gives(['POST', '/holds/h-1/capture', { amount => 2 }], 200, {}, 'and captured');
	refused(event('ann', -500, id => 'e-2'), 402, 'insufficient_funds', 'a refusal');
	my @said = cat();
	is(join(' ', map { $_->{type} } @said), 'replace event transfer hold capture', 'what was done, in order');
	my $feed = $tallyd->request('GET', '/feed?format=ndjson&follow=false&after=0')->{body};
	is((ctl('--json', @data, 'journal', 'cat'))[1], $feed, 'as the feed tells it');
	my ($status, $out) = ctl(@data, 'journal', 'cat');
	my @lines = split /\n/, $out;
	is(scalar @lines, 6, 'for people, a line for each account');
	like($lines[1], qr/^20\d\d-\d\d-\d\dT[\d:.]+Z +\d+ event +\+30 +30  ann  id e-1  note a note$/, '... with all that there is');
	like($lines[3], qr/^ +\+3 +3  bea$/, '... also the other one');
	is(join(' ', map { $_->{type} } cat('-a', 'be')), 'transfer', 'of one account');
	is(join(' ', map { $_->{type} } cat('--account', 'zoe')), '', 'or of none');
	is(join(' ', map { $_->{type} } cat('-n', 2)), 'replace event', 'so many');
	is(join(' ', map { $_->{type} } cat('-s', $said[1]{lsn})), 'transfer hold capture', 'from a position on');
	is(join(' ', map { $_->{type} } cat('-s', $said[1]{lsn}, '--until', $said[3]{lsn})), 'transfer hold', 'up to another');
	is(join(' ', map { $_->{type} } cat('-s', $said[4]{lsn})), '', 'behind the last there is nothing');
	is_error([@data, 'journal', 'cat', '-s', $said[1]{lsn} + $_], 1, 'failed', qr/no record begins at position @{[$said[1]{lsn} + $_]}$/, "... but not from inside a record ($_)") for 1, 8;
	for my $follow ([], ['-f']) {
		is_error([@data, 'journal', 'cat', '-s', 1 << 50, @$follow], 1, 'failed', qr/there is no record at position 1125899906842624: the journal ends at \d+/, "nor from behind its end (@$follow)");
	}
	is(join(' ', map { $_->{type} } cat('-s', $said[2]{lsn} - 1)), 'transfer hold capture', 'the position before a record is a place, too');
	is(scalar cat('-s', $_), 5, "so is $_") for 0, 4095;
	for my $after ($said[1]{lsn} + 1, $said[1]{lsn} + 8, 1 << 50, $said[2]{lsn} - 1, $said[4]{lsn}) {
		my $feed = $tallyd->request('GET', "/feed?format=ndjson&follow=false&after=$after")->{status};
		is((ctl(@data, 'journal', 'cat', '-s', $after))[0], $feed == 200 ? 0 : 1, "as of the feed: $after");
	}
	is_error(['-d', "$dir/nowhere", 'journal', 'cat'], 1, 'failed', qr/nowhere/, 'no data directory');
	is((ctl(@data, 'journal', 'cat', '-n', 'x'))[0], 2, 'no number');
	my $said = `'@{[tallyctl()]}' -d '@{[$tallyd->data_dir]}' journal cat 2>&1 >/dev/full`;
	like($said, qr/standard output: cannot write: No space left/, 'nobody takes it');
	is(`'@{[tallyctl()]}' -d '@{[$tallyd->data_dir]}' journal cat 2>&1 | head -n 1 | wc -l` + 0, 1, 'head takes what it wants');
	return;
}

# ---- while it is written

sub follow {
	my ($file, @options) = @_;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDOUT, '>', $file or POSIX::_exit(126);
		open STDERR, '>', "$file.err" or POSIX::_exit(126);
		exec tallyctl(), '--json', @data, 'journal', 'cat', @options or POSIX::_exit(127);
	}
	return $pid;
}

sub test_follow {
	my $last = (cat())[-1]{lsn};
	is((ctl('--json', @data, 'journal', 'cat', '-f', '--until', $last))[0], 0, 'following ends where it is to');
	my $newest = (cat())[-1]{lsn};
	my $pid = follow("$dir/followed", '-f', '-s', $newest, '-a', 'w-');
	my $counted = follow("$dir/counted", '-f', '-s', $newest, '-a', 'w-', '-n', 5);
	my $parent = $$;
	my @writers = map {
		my $number = $_;
		my $writer = fork;
		die "cannot fork: $!" unless defined $writer;
		if ($writer == 0) {
			my $connection = $tallyd->connection;
			for my $i (1 .. EACH) {
				$tallyd->call('POST', '/events', { account => "w-$number", amount => 1, id => "w-$number-$i", note => 'x' x 100 }, undef, connection => $connection);
			}
			POSIX::_exit(0);
		}
		$writer;
	} 1 .. WRITERS;
	waitpid $_, 0 for @writers;
	ok((wait_until { (slurp("$dir/followed") =~ tr/\n//) >= WRITERS * EACH } 30), 'all of it comes') or diag(slurp("$dir/followed.err"));
	kill INT => $pid;
	waitpid $pid, 0;
	is($?, 0, 'until it is interrupted');
	waitpid $counted, 0;
	is($?, 0, 'or has told enough');
	is(scalar(lines(slurp("$dir/counted"))), 5, '... so many');
	my @told = lines(slurp("$dir/followed"));
	is(scalar(grep { $told[$_]{lsn} <= $told[$_ - 1]{lsn} } 1 .. $#told), 0, 'in order');
	for my $number (1 .. WRITERS) {
		is(join(' ', map { $_->{id} } grep { $_->{legs}[0]{account} eq "w-$number" } @told), join(' ', map { "w-$number-$_" } 1 .. EACH), 'each once');
	}
	# Page by page, from a position in the middle of any segment.
	my ($at, @all) = ($newest);
	while (1) {
		my ($status, $out) = ctl('--json', @data, 'journal', 'cat', '-s', $at, '-n', PAGE);
		my @page = lines($out) or last;
		push @all, map { $_->{lsn} } @page;
		$at = $all[-1];
	}
	is(scalar @all, WRITERS * EACH, 'the same by pages');
	cmp_ok(scalar(my @segments = glob $tallyd->data_dir . '/journal/*.journal'), '>', 2, 'over several segments');
	return;
}

# ---- damage

sub test_damage {
	$tallyd->event('w-1', 1) for 1 .. 20;
	is($tallyd->stop, 0, 'it stops');
	my ($last) = reverse glob $tallyd->data_dir . '/journal/*.journal';
	# Not the first record of a segment: there the journal breaks off at the end of the one before.
	my ($found) = grep { slurp($_) =~ /w-1.*w-1/s } reverse glob $tallyd->data_dir . '/journal/*.journal';
	my $bytes = slurp($found);
	my $at = index $bytes, 'w-1', 1 + index $bytes, 'w-1';
	substr $bytes, $at, 3, 'XXX';
	open my $file, '>:raw', $found or die $!;
	print {$file} $bytes;
	close $file or die $!;
	my ($status, $out, $err) = ctl(@data, 'journal', 'cat');
	is($status, 1, 'damage ends it');
	like($err, qr/\Q$found\E, offset \d+: no sound record here, .*see tallyctl journal repair/, '... and is named');
	is_error([@data, 'journal', 'prune', '--keep-bytes', 1, '-w', 1], 1, 'failed', qr/damaged.*nothing was removed/, 'a damaged one is not pruned');
	return;
}

test_lines();
test_follow();
test_damage();
done_testing;
