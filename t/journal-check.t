#!/usr/bin/perl
# tallyctl journal check: what the daemon wrote is found right, beside it and after it; a record that
# was changed, with a right checksum, is found with its place; and how the command is used.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/lib";
use Ctl qw(ctl_as_nobody);
use Tallyd qw(build_dir);
use Test::More;

my $tallyctl = $ENV{TALLYCTL} || build_dir() . '/tallyctl';
my $change = build_dir() . '/t/journal-change';

# (exit status, standard output, standard error) of tallyctl with ARGUMENTS.
sub tallyctl {
	my (@arguments) = @_;
	my $dir = tempdir(CLEANUP => 1);
	my $command = join ' ', map { "'$_'" } $tallyctl, @arguments;
	system "$command >'$dir/out' 2>'$dir/err'";
	return ($? >> 8, Tallyd::slurp("$dir/out"), Tallyd::slurp("$dir/err"));
}

sub check { my ($data, @more) = @_; return tallyctl('-d', $data, qw(journal check), @more) }

my $tallyd = Tallyd->start(config => { workers => 2, snapshot_every => '64K',
	journal_segment => '64K' });
my $data = $tallyd->data_dir;
my $count = 600;
for my $i (1 .. $count) {
	$tallyd->call(POST => '/events', { account => 'account-' . $i % 7, amount => $i,
		$i % 3 ? () : (id => "order-$i") });
}
$tallyd->call(POST => '/accounts', { account => 'made', floor => 0, id => 'making' });
$tallyd->call(POST => '/events', { account => 'made', amount => -5, id => 'too-much' });
my $hold = $tallyd->call(POST => '/holds', { account => 'account-1', amount => 7, ttl => 60 });
$tallyd->call(POST => '/holds', { account => 'account-2', amount => 7, ttl => 60, id => 'open' });
$tallyd->call(POST => "/holds/$hold->{json}{hold}/capture", { amount => 3 });

my ($status, $out, $err) = check($data);
is($status, 0, 'beside a running daemon it is sound') or diag $err;
like($err, qr/^tallyctl: process @{[$tallyd->pid]} is writing this journal: /, 'which it says');

is($tallyd->stop, 0, 'the daemon stops');
($status, $out, $err) = check($data);
is($status, 0, 'after it as well') or diag $err;
is($err, '', 'without a word of a daemon');
like($out, qr/^\Q$data\E\/journal: sound from position 4096 to \d+: \d+ records, \d+ operations, 1 refusals, \d+ ids, 0 seals; 8 accounts, 1 open holds\n\z/,
	'one line of counts');

($status, $out, $err) = check($data, '--json');
is($status, 0, 'the same with --json');
is($err, '', 'without a word besides');
my $json = JSON::PP->new->decode($out);
is($json->{status}, 'sound', 'is a document that says so');
is($json->{journal}, "$data/journal", 'of what');
is(join(' ', map { "$_ $json->{$_}" } qw(refusals seals accounts open_holds)),
	'refusals 1 seals 0 accounts 8 open_holds 1', 'and has the counts');
is((tallyctl('--json', '-d', $data, qw(journal check)))[1], $out, 'before the command it means the same');

# ---- a lie in a copy

my $copy = tempdir(CLEANUP => 1);
make_path("$copy/journal");
copy($_, "$copy/journal/") or die "$_: $!" for glob "$data/journal/*.journal";
is((check($copy))[0], 0, 'a copy is as sound');
for my $which (5, $count - 50) {
	chomp(my $lsn = `'$change' '$copy/journal' $which`);
	cmp_ok($lsn, '>', 4096, "the balance of event $which is changed");
	($status, $out, $err) = check($copy);
	is($status, 1, 'that is found');
	my $name = sprintf '%016x.journal', $lsn - $lsn % 65536;
	my $offset = $lsn % 65536;
	is($err, "tallyctl: $copy/journal/$name, offset $offset: the balance does not follow from the amount\n",
		'with its file and offset');
	is($out, '', 'and nothing is said to be right');
	($status, $out) = check($copy, '--json');
	is($status, 1, 'with --json it is found as well');
	is_deeply(JSON::PP->new->decode($out), { status => 'error', reason => 'failed',
		detail => "$copy/journal/$name, offset $offset: the balance does not follow from the amount" },
		'and told so');
	copy($_, "$copy/journal/") or die "$_: $!" for glob "$data/journal/*.journal";
}

# The beginning is gone.
unlink "$copy/journal/0000000000000000.journal" or die $!;
($status, $out, $err) = check($copy);
is($status, 0, 'without its beginning it is sound') or diag $err;
like($out, qr/\(the beginning is not kept\)/, 'and that is said');

# ---- ids that were forgotten, as the daemon was told

my $forgets = Tallyd->start(config => { max_ids => 200 });
my $line = $forgets->connection;
for my $round (1, 2) {
	$forgets->call(POST => '/events', { account => 'a', amount => 1, id => "again-$_" }, undef, connection => $line)
		for 1 .. 1000;
}
cmp_ok($forgets->balance('a'), '>', 1000, 'what was forgotten is done again');
is((check($forgets->data_dir))[0], 0, 'the running daemon says how many it remembers');
is($forgets->stop, 0, 'it stops');
is((tallyctl('-c', $forgets->config_file, qw(journal check)))[0], 0, 'then its configuration says that');
is((tallyctl('-c', $forgets->config_file, '-d', $forgets->data_dir, qw(journal check)))[0], 0, '... beside -d, too');
is((check($forgets->data_dir, '-i', 200))[0], 0, 'or -i');
($status, $out, $err) = check($forgets->data_dir);
is($status, 1, 'of a hundred thousand none would have been forgotten');
like($err, qr/offset \d+: its id stands for an earlier record$/, 'which is a difference');
is((tallyctl('-c', $forgets->config_file, qw(journal check -i 100000)))[0], 1, '-i is above the configuration');

# ---- what is not there, and how it is used

($status, $out, $err) = check("$copy/nowhere");
is($status, 1, 'no data directory');
like($err, qr{^tallyctl: \Q$copy\E/nowhere/journal: cannot be opened: No such file}, 'is named');
ok(!-e "$copy/nowhere", 'and not made');

SKIP: {
	skip 'only root can be nobody', 4 if $> != 0;
	chmod 0755, $copy, "$copy/journal" or die $!;
	my ($last) = reverse sort glob "$copy/journal/*.journal";
	chmod 0600, glob "$copy/journal/*.journal" or die $!;
	for my $closed ($last, "$copy/journal") {
		chmod 0700, $closed or die $!;
		my ($code, undef, $complaint) = ctl_as_nobody('-d', $copy, qw(journal check));
		is($code, 4, 'what may not be read is no damage');
		like($complaint, qr{^tallyctl: \Q$copy\E/journal.*: Permission denied$}, 'and named');
	}
}

for my $wrong ([], ['journal'], ['journal', 'chek'], ['-x', 'journal', 'check'],
	[qw(journal check more)], [qw(journal check -i 0)], [qw(journal check -i 1x)],
	[qw(journal check -w -1)], [qw(journal check -w 99999999)], [qw(journal check -z)], ['-d']) {
	($status, $out, $err) = tallyctl(@$wrong);
	is($status, 2, "usage: tallyctl @$wrong");
	like($err, qr/^(?:\S+: .*\n)?usage: tallyctl/, 'is shown');
}
($status, $out) = tallyctl('-V');
like($out, qr/^tallyctl \d+\.\d+/, 'its version');
is($status, 0, 'is no error');
($status, $out) = tallyctl('-h');
like($out, qr/^usage: tallyctl .*journal check/s, 'nor is the question how it is used');
is($status, 0, 'of which it says so');
($status) = check($data, '-i', 1000, '-w', 3600);
is($status, 0, 'its options');

done_testing();
