#!/usr/bin/perl
# tallyctl journal repair: a journal that tallyd refuses is made one that it starts from; what that costs
# is said, what was there is kept, and what is undone can be done again; also when it is killed half-way.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Ctl qw(ctl ctl_json is_error is_number tallyctl);
use JSON::PP ();
use POSIX ();
use Tallyd qw(build_dir slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep);

use constant { ACCOUNTS => 7, EVENTS => 900, KILLS => 12, BULK => 16_000, SEGMENT => 65_536 };

my $top = tempdir(CLEANUP => 1);
my %CONFIG = (workers => 2, journal_segment => '64K', ring_size => '256K');

# ---- a journal to be damaged: one without a snapshot, and one with two

my (%balance, %made);

sub make {
	my ($name, $snapshots) = @_;
	my $bulk = join '', map { qq({"account":"bulk","amount":1,"note":"@{['y' x 200]}"}\n) } 1 .. BULK;
	mkdir "$top/$name", 0700 or die $!;
	my $tallyd = Tallyd->start(config => { %CONFIG, $snapshots ? (journal_segment => '512K', ring_size => '1M') : () }, data_dir => "$top/$name");
	my $connection = $tallyd->connection;
	for my $i (1 .. EVENTS) {
		$tallyd->call('POST', '/events', { account => 'a-' . $i % ACCOUNTS, amount => $i, id => "e-$i", note => 'x' x 60 }, undef, connection => $connection);
		if ($snapshots && ($i == EVENTS / 3 || $i == 2 * EVENTS / 3)) {
			# A start reads the journal from the seal before a snapshot on, and there is one every few MiB.
			$tallyd->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'], $bulk, deadline => 30);
			my ($status, $out, $err) = ctl('-d', "$top/$name", 'snapshot');
			is($status, 0, 'a snapshot') or diag($err);
		}
	}
	$tallyd->call('POST', '/transfers', { from => 'a-1', to => 'a-2', amount => 5, id => 't-1' });
	$balance{$name} = { map { ("a-$_" => $tallyd->balance("a-$_")) } 0 .. ACCOUNTS - 1 };
	is($tallyd->stop, 0, "$name is made");
	$made{$name} = 1;
	return;
}

my $number = 0;

# A copy of the data directory NAME.
sub copy_of {
	my ($name) = @_;
	my $to = "$top/copy-" . ++$number;
	for my $part ('journal', 'snapshots') {
		make_path("$to/$part", { mode => 0700 });
		for (glob "$top/$name/$part/*") { copy($_, "$to/$part/") or die "$_: $!" }
	}
	chmod 0700, $to;
	return $to;
}

sub segments { my ($data) = @_; return sort glob "$data/journal/*.journal" }

sub repair { my ($data, @more) = @_; return ctl_json('-d', $data, 'journal', 'repair', @more) }

# The bytes of all files below a directory.
sub image { my ($data) = @_; return join '|', map { "$_:" . unpack '%64C*', slurp($_) } grep { -f } sort glob "$data/{journal,snapshots}/*" }

sub refused_start {
	my ($data, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $tallyd = Tallyd->start(config => {%CONFIG}, data_dir => $data, expect_failure => 1);
	like($tallyd->log_text, $pattern, "$name: tallyd refuses");
	return;
}

sub balances_of { my ($tallyd) = @_; return { map { ("a-$_" => $tallyd->balance("a-$_")) } 0 .. ACCOUNTS - 1 } }

# Starts tallyd on the repaired DATA, brings back what was undone, and has what was there before but for LOST
# (by account).
sub is_mended {
	my ($data, $json, $original, $lost, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is((ctl('-d', $data, 'journal', 'check'))[0], 0, "$name: the journal is sound then");
	my $tallyd = Tallyd->start(config => {%CONFIG}, data_dir => $data);
	ok($tallyd->serves, "$name: tallyd starts");
	my $undone = "$json->{copies}/undone.ndjson";
	my @records = split /\n/, slurp("$json->{copies}/undone-records.ndjson");
	is(scalar @records, $json->{undone}, "$name: as many operations are told as undone");
	if (-s $undone) {
		my ($status, $out, $err) = ctl('-d', $data, 'import', '-u', $tallyd->url, $undone);
		is($status, 0, "$name: what was undone is brought back") or diag($out . $err);
		is((ctl('-d', $data, 'import', '-u', $tallyd->url, $undone))[0], 0, "$name: as often as one likes");
	}
	my %wanted = %{ $balance{$original} };
	$wanted{$_} -= $lost->{$_} for keys %$lost;
	is_deeply(balances_of($tallyd), \%wanted, "$name: nothing else is lost");
	is($tallyd->stop, 0, "$name: it stops");
	return;
}

# The positions of the records of events, by their ids.
sub positions {
	my ($data) = @_;
	my ($status, $out) = ctl('--json', '-d', $data, 'journal', 'cat');
	return { map { ($_->{id} => $_->{lsn}) } grep { defined $_->{id} } map { JSON::PP->new->utf8->decode($_) } split /\n/, $out };
}

# Changes a byte of the record at position LSN.
sub damage {
	my ($data, $lsn) = @_;
	my ($file) = grep { /([0-9a-f]{16})\.journal$/ && hex $1 <= $lsn && $lsn < (hex $1) + SEGMENT } segments($data);
	my ($base) = $file =~ /([0-9a-f]{16})\.journal$/;
	open my $out, '+<:raw', $file or die "$file: $!";
	seek $out, $lsn - hex($base) + 40, 0;
	print {$out} "\xa5\x5a\xa5";
	close $out or die "$file: $!";
	return $file;
}

make('plain', 0);
make('snapped', 1);
my $lsn = positions("$top/plain");
is(scalar keys %$lsn, EVENTS + 1, 'each has its position');

# ---- nothing is wrong

sub test_sound {
	my $data = copy_of('snapped');
	my $before = image($data);
	my ($status, $json) = repair($data, '--yes');
	is_deeply([$status, $json->{status}], [0, 'sound'], 'a sound one is left alone');
	is(image($data), $before, '... to the byte');
	ok(!glob("$data/damaged-*"), '... and nothing is copied');
	my $tallyd = Tallyd->start(config => {%CONFIG}, data_dir => $data);
	is_error(['-d', $data, 'journal', 'repair', '--yes'], 1, 'failed', qr/tallyd runs on this data directory/, 'one that is used');
	# Whatever descriptor is missing: what is said goes nowhere, not into the file that gets its number.
	for my $closed ('>/dev/null 2>&-', '>&- 2>&-', '<&- >&- 2>&-') {
		my $lock = slurp("$data/lock");
		system "'@{[tallyctl()]}' -d '$data' journal repair -n --json $closed";
		is($? >> 8, 1, "the same with $closed");
		is(slurp("$data/lock"), $lock, '... which writes nothing into the lock');
	}
	is((ctl('-d', $data, 'status'))[0], 0, '... so that the daemon is still seen');
	is($tallyd->stop, 0, 'it stops');
	return;
}

# ---- a record in the middle

sub test_record {
	my $data = copy_of('plain');
	my $middle = EVENTS / 2;
	my $file = damage($data, $lsn->{"e-$middle"});
	refused_start($data, qr/\Q$file\E.*tallyctl journal repair/, 'a damaged record');
	my $before = image($data);
	unlink "$data/lock";
	my ($status, $json) = repair($data, '-n');
	ok(!-e "$data/lock", 'a rehearsal makes nothing');
	is_deeply([$status, $json->{status}], [0, 'rehearsed'], 'what would be done is told');
	is_number($json, $_) for 'first', 'end';
	is($json->{end}, $lsn->{"e-$middle"}, '... the journal would end there');
	is($json->{undone}, EVENTS - $middle + 1, '... and so many operations be undone');
	like($json->{damage}, qr/\Q$file\E, offset \d+/, '... because of what is there');
	is(image($data), $before, '... which changes nothing');
	is((ctl('-d', $data, 'journal', 'repair'))[0], 2, 'it is not done without --yes');
	is(image($data), $before, '... nothing is changed');
	# Others that were killed, of these seconds.
	for my $ahead (0 .. 5) { mkdir $data . POSIX::strftime('/damaged-%Y%m%dT%H%M%SZ', gmtime time + $ahead) }
	($status, $json) = repair($data, '--yes');
	is_deeply([$status, $json->{status}, $json->{undone}], [0, 'repaired', EVENTS - $middle + 1], 'it is repaired');
	like($json->{copies}, qr/Z-2$/, '... beside what earlier ones have left');
	my ($kept) = $before =~ m{/(?:[^|]*)\Q@{[$file =~ s{.*/}{}r]}\E:(\d+)};
	is(unpack('%64C*', slurp("$json->{copies}/journal/" . ($file =~ s{.*/}{}r))), $kept, 'what was there is kept, as it was');
	is_mended($data, $json, 'plain', { 'a-' . $middle % ACCOUNTS() => $middle }, 'a damaged record');
	return;
}

# ---- whole files

sub test_segment {
	my $data = copy_of('plain');
	my @all = segments($data);
	cmp_ok(scalar @all, '>', 3, 'there are several segments');
	my $gone = $all[1];
	my ($from, $to) = (SEGMENT, 2 * SEGMENT);
	unlink $gone or die $!;
	refused_start($data, qr/the segment before this one is missing/, 'a missing segment');
	my ($status, $json) = repair($data, '--yes');
	is_deeply([$status, $json->{status}], [0, 'repaired'], 'it is repaired');
	my %lost;
	for my $i (1 .. EVENTS) {
		$lost{ 'a-' . $i % ACCOUNTS() } += $i if $lsn->{"e-$i"} >= $from && $lsn->{"e-$i"} < $to;
	}
	is_mended($data, $json, 'plain', \%lost, 'a missing segment');

	$data = copy_of('plain');
	@all = segments($data);
	truncate $all[2], 10_000 or die $!;
	refused_start($data, qr/has been cut short/, 'a segment that is cut short');
	($status, $json) = repair($data, '--yes');
	is($status, 0, 'it is repaired');
	%lost = ();
	for my $i (1 .. EVENTS) {
		my $at = $lsn->{"e-$i"};
		$lost{ 'a-' . $i % ACCOUNTS() } += $i if $at + 300 > 2 * SEGMENT + 10_000 && $at < 3 * SEGMENT && !grep { /"e-$i"/ } split /\n/, slurp("$json->{copies}/undone.ndjson");
	}
	if (slurp("$json->{copies}/undone-records.ndjson") !~ /"t-1"/) { $lost{'a-1'} -= 5; $lost{'a-2'} += 5 }
	is_mended($data, $json, 'plain', \%lost, 'a segment that is cut short');

	$data = copy_of('plain');
	@all = segments($data);
	open my $file, '+<:raw', $all[0] or die $!;
	print {$file} 'no head';
	close $file or die $!;
	refused_start($data, qr/is not a journal segment/, 'a first segment without its head');
	is_error(['-d', $data, 'journal', 'repair', '--yes'], 1, 'failed', qr/no part of the journal can be started from: restore a backup/, 'nothing is to be had from that');
	is(scalar(my @now = segments($data)), scalar @all, '... and nothing is touched');
	return;
}

# ---- with snapshots: what lies before them costs no balance

sub test_snapshots {
	my $data = copy_of('snapped');
	my @all = segments($data);
	unlink $all[0] or die $!;
	open my $file, '+<:raw', $all[1] or die $!;
	print {$file} 'no head';
	close $file or die $!;
	refused_start($data, qr/tallyctl journal repair/, 'damage before the snapshots');
	my ($status, $json) = repair($data, '--yes');
	is_deeply([$status, $json->{status}, $json->{undone}], [0, 'repaired', 0], 'nothing is undone');
	is_mended($data, $json, 'snapped', {}, 'damage before the snapshots');

	# The newest snapshot is unreadable: an older one, or none, will do.
	$data = copy_of('snapped');
	my ($newest) = reverse sort glob "$data/snapshots/*.snapshot";
	open $file, '+<:raw', $newest or die $!;
	seek $file, 200, 0;
	print {$file} 'damage';
	close $file or die $!;
	($status, $json) = repair($data, '--yes');
	is_deeply([$status, $json->{status}], [0, 'sound'], 'a damaged snapshot is no damage: tallyd passes it over');

	# The journal ends before what the newest snapshot knows.
	my $where = positions("$top/snapped");
	$data = copy_of('snapped');
	my $cut = $where->{ 'e-' . int(EVENTS / 2) };
	unlink $_ or die $! for grep { /([0-9a-f]{16})\.journal$/ && hex $1 > $cut } segments($data);
	refused_start($data, qr/the journal ends before/, 'a journal that ends too early');
	($status, $json) = repair($data, '--yes');
	is_deeply([$status, $json->{status}], [0, 'repaired'], 'is repaired');
	cmp_ok($json->{snapshots_removed}, '>=', 1, '... without the snapshot that knows more');
	is((ctl('-d', $data, 'journal', 'check'))[0], 0, '... and is sound');
	my $tallyd = Tallyd->start(config => {%CONFIG}, data_dir => $data);
	ok($tallyd->serves, '... tallyd starts');
	is($tallyd->stop, 0, '... and stops');
	ok(-s "$json->{copies}/snapshots/" . ($newest =~ s{.*/}{}r), '... the snapshot is kept');
	return;
}

# ---- killed half-way

sub test_killed {
	my $data = copy_of('plain');
	my $early = 100;
	damage($data, $lsn->{"e-$early"});
	my ($killed, $done) = (0, 0);
	for my $try (1 .. KILLS) {
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			open STDOUT, '>', '/dev/null';
			open STDERR, '>', '/dev/null';
			exec tallyctl(), '-d', $data, 'journal', 'repair', '--yes' or POSIX::_exit(127);
		}
		sleep 0.001 * $try;
		kill KILL => $pid;
		waitpid $pid, 0;
		$? == 0 ? $done++ : $killed++;
		# What has its name holds all that it should.
		for my $copies (grep { !/unfinished/ } glob "$data/damaged-*") {
			ok(-e "$copies/undone.ndjson" && -e "$copies/undone-records.ndjson", 'copies that have their name are whole');
		}
	}
	note("$killed killed, $done done");
	my ($status, $json) = repair($data, '--yes');
	is($status, 0, 'once more') or diag(JSON::PP->new->encode($json));
	is((ctl('-d', $data, 'journal', 'check'))[0], 0, 'the journal is sound then');
	# The first copies that were finished have all that was undone.
	my ($first) = sort { (split /\n/, slurp("$b/undone.ndjson")) <=> (split /\n/, slurp("$a/undone.ndjson")) } grep { !/unfinished/ } glob "$data/damaged-*";
	my $tallyd = Tallyd->start(config => {%CONFIG}, data_dir => $data);
	is((ctl('-d', $data, 'import', '-u', $tallyd->url, "$first/undone.ndjson"))[0], 0, 'what was undone is brought back');
	my %wanted = %{ $balance{plain} };
	$wanted{ 'a-' . $early % ACCOUNTS() } -= $early;
	is_deeply(balances_of($tallyd), \%wanted, '... all of it');
	is($tallyd->stop, 0, 'it stops');
	return;
}

test_sound();
test_record();
test_segment();
test_snapshots();
test_killed();
done_testing;
