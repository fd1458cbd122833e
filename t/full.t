#!/usr/bin/perl
# No room: in /dev/shm, where tallyd must not start, and say why; on the disk, where it goes on
# reading, takes no update, remembers no id, and heals by itself once there is room.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use File::Temp ();
use Hammer;
use Mounts;
use Tallyd qw(slurp wait_until);
use Test::More;

use constant {
	BALLAST       => 4 * 1024 * 1024, # bytes that are given back to make room
	DISK          => '6M',
	HEAL_DEADLINE => 10, # seconds; the daemon looks every second
	RESTARTS      => 3,  # on a full disk
	LAST_ROOM     => 2000, # operations that may fit where many at once did not
};

Mounts::enter();

my $top = File::Temp::tempdir('tallyd-full-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
my ($memory, $disk) = ("$top/memory", "$top/disk");
mkdir $_ or die "mkdir $_: $!" for $memory, $disk;
my @mounted;

# Before File::Temp removes the directory.
END {
	local $?;
	Mounts::failure('umount', '-l', $_) for reverse @mounted;
}

# ---- /dev/shm

Mounts::tmpfs('/dev/shm', '1M');
my $tallyd = Tallyd->start(expect_failure => 1);
is($tallyd->exit_status, 1, 'a full /dev/shm: it does not start');
my $words = qr/cannot make the shared memory .* bytes: No space left on device; enlarge \/dev\/shm or lower max_accounts, max_ids, max_holds, max_addresses and ring_size/;
like($tallyd->log_text, $words, '... and says what to do');
is_deeply([glob '/dev/shm/*'], [], '... and leaves nothing there');
my $said = Mounts::failure($tallyd->binary, '-c', $tallyd->config_file);
like($said, $words, 'in the background: the starter is told');
Mounts::run('mount', '-o', 'remount,size=64M', '/dev/shm');
ok(eval { $tallyd->start_again; 1 }, 'with room it starts') or diag $@;
is($tallyd->stop, 0, 'drained');
is_deeply([glob '/dev/shm/*'], [], '... and leaves nothing there');
undef $tallyd;

# ---- the disk

sub put_ballast {
	open my $file, '>', "$disk/ballast" or die "ballast: $!";
	syswrite $file, "\1" x BALLAST or die "ballast: $!";
	close $file or die "ballast: $!";
	return;
}

sub make_room { unlink "$disk/ballast" or die "ballast: $!"; return }

# Loads TALLYD until the disk is full; what the hammer was told.
sub fill {
	my ($tallyd, $prefix) = @_;
	my $hammer = Hammer->start($tallyd, connections => 4, depth => 8, accounts => 20,
		prefix => $prefix);
	my $full = wait_until { ($hammer->told || {})->{refused}{disk_full} } 30;
	ok($full, 'updates are refused with disk_full') or diag $tallyd->log_tail;
	my $before = $hammer->told->{acknowledged};
	my $told = $hammer->finish;
	cmp_ok($told->{acknowledged}, '>', 0, '... after some were accepted');
	is($told->{unknown}, 0, '... and every one was answered');
	is_deeply([Hammer::oddities($told)], [], '... rightly');
	return $told;
}

# Where eight events at once had no room, a smaller record may still fit: until there is none.
sub fill_up {
	my ($tallyd) = @_;
	my $connection = $tallyd->connection;
	for (1 .. LAST_ROOM) {
		return if $tallyd->event('filler', 1, connection => $connection)->{status} == 507;
	}
	die 'the disk is never full';
}

sub metric { my ($tallyd, $name) = @_; return $tallyd->request('GET', '/metrics')->{body} =~ /^\Q$name\E (\S+)$/m ? $1 : -1 }

# What a full disk looks like from outside.
sub is_full {
	my ($tallyd, $told) = @_;
	fill_up($tallyd);
	my $answer = $tallyd->event('full', 1);
	is($answer->{status}, 507, 'an update: 507');
	is($answer->{json}{reason}, 'disk_full', '... disk_full');
	is($tallyd->balance('full'), undef, '... and not applied');
	is(metric($tallyd, 'tallyd_disk_full'), 1, 'the metrics say so');
	my $refused = metric($tallyd, 'tallyd_events_total{outcome="rejected",reason="disk_full"}');
	cmp_ok($refused, '>=', 1, '... and count what was refused');
	$tallyd->event('full', 1);
	is(metric($tallyd, 'tallyd_events_total{outcome="rejected",reason="disk_full"}'), $refused + 1, '... one by one');
	$answer = $tallyd->request('GET', '/healthz');
	is("$answer->{status} $answer->{json}{reason}", '503 disk_full', '/healthz: 503 disk_full');
	is_deeply([Hammer::lost($tallyd, $told)], [], 'balances are read, and right');
	return;
}

# While there is room: what the next operations are about.
sub prepare {
	my ($tallyd, $round) = @_;
	$tallyd->call(@$_) for ['POST', '/accounts', { account => "kept$round", floor => 0 }],
		['POST', '/events', { account => "kept$round", amount => 100 }],
		['POST', '/holds', { account => "kept$round", amount => 3, ttl => 3600, id => "placed$round" }];
	return;
}

# Operations under ids, and what they are answered when there is room.
sub waiting {
	my ($round) = @_;
	my ($kept, $got) = ("kept$round", "got$round");
	my @all = (
		[200, 'POST', '/events', { account => $kept, amount => 7 }],
		[402, 'POST', '/events', { account => $kept, amount => -1000 }],
		[404, 'POST', '/holds/none/release', {}],
		[200, 'POST', '/transfers', { from => $kept, to => $got, amount => 2 }],
		[200, 'POST', '/transactions', { legs => [{ account => $kept, amount => -2 },
			{ account => $got, amount => 2 }] }],
		[201, 'POST', '/holds', { account => $kept, amount => 3, ttl => 3600 }],
		[200, 'POST', "/holds/placed$round/capture", { amount => 4 }],
		[201, 'PUT', "/accounts/put$round", { floor => 0 }],
		[409, 'POST', '/accounts', { account => $kept }],
	);
	my $number = 0;
	$_->[3]{id} = "waiting$round-" . ++$number for @all;
	return @all;
}

# "status replayed" of each.
sub ask {
	my ($tallyd, $round) = @_;
	my $connection = $tallyd->connection;
	return map {
		my $answer = $tallyd->call(@$_[1 .. 3], undef, connection => $connection);
		"$answer->{status} " . ($answer->{headers}{'idempotent-replayed'} || 'first');
	} waiting($round);
}

sub is_not_remembered {
	my ($tallyd, $round) = @_;
	my @waiting = waiting($round);
	is_deeply([ask($tallyd, $round)], [map { "$_->[0] first" } @waiting],
		'what was refused with 507 under an id is decided, for the first time');
	is_deeply([ask($tallyd, $round)], [map { "$_->[0] true" } @waiting], '... and then remembered');
	is_deeply([map { $tallyd->balance("$_$round") } 'kept', 'got', 'put'], [99, 4, 0],
		'... and applied once');
	return;
}

# Twice, for the second is a retry.
sub is_refused {
	my ($tallyd, $round) = @_;
	is_deeply([ask($tallyd, $round), ask($tallyd, $round)], [map { '507 first' } waiting($round), waiting($round)],
		'every operation under an id: 507');
	return;
}

sub heals {
	my ($tallyd) = @_;
	make_room();
	ok((wait_until { $tallyd->request('GET', '/healthz')->{status} == 200 } HEAL_DEADLINE),
		'with room it heals by itself');
	is($tallyd->event('healed', 1)->{status}, 200, '... and takes updates');
	return;
}

sub full_disk {
	my ($kind) = @_;
	mkdir "$disk/data", 0700 or die "mkdir: $!";
	put_ballast();
	$tallyd = Tallyd->start(data_dir => "$disk/data", config => { journal_segment => '256K',
		ring_size => '256K', snapshot_every => '256K', max_accounts => 1000 });
	prepare($tallyd, 1);
	my @told = fill($tallyd, 'first');
	like($tallyd->log_text, qr/cannot make the next journal segment: No space left on device;.*Make room/,
		"$kind: the log says what to do");
	is_full($tallyd, $told[0]);
	is_refused($tallyd, 1);
	heals($tallyd);
	is_not_remembered($tallyd, 1);
	like($tallyd->log_text, qr/the journal has room again/, '... and says so');

	prepare($tallyd, 2);
	put_ballast();
	push @told, fill($tallyd, 'second');
	for my $restart (1 .. RESTARTS) {
		$restart % 2 ? $tallyd->kill9 : is($tallyd->stop, 0, 'drained on a full disk');
		$tallyd->start_again(expect_health => 503);
		is_full($tallyd, $_) for @told;
		is_refused($tallyd, 2);
	}
	heals($tallyd);
	is_not_remembered($tallyd, 2);
	is($tallyd->stop, 0, 'drained');
	undef $tallyd;
	return;
}

# ---- a sparse copy

# What cp --sparse=always and rsync -S make of the zeros that are to be written over.
sub dig_holes {
	Mounts::run('fallocate', '--dig-holes', $_) for glob "$disk/data/journal/*.journal";
	return;
}

sub blocks { my $blocks = 0; $blocks += (stat)[12] * 512 for glob "$disk/data/journal/*.journal"; return $blocks }

sub sparse_copy {
	mkdir "$disk/data", 0700 or die "mkdir: $!";
	put_ballast();
	$tallyd = Tallyd->start(data_dir => "$disk/data", config => { journal_segment => '256K',
		ring_size => '256K', snapshot_every => 0, max_accounts => 1000 });
	is($tallyd->event('sparse', 1)->{status}, 200, 'a journal');
	is($tallyd->stop, 0, '... that is drained');
	my $whole = blocks();
	dig_holes();
	cmp_ok(blocks(), '<', $whole / 2, '... and copied sparsely');
	$tallyd->start_again;
	cmp_ok(blocks(), '>=', $whole, 'it has its blocks again');
	is_full($tallyd, fill($tallyd, 'sparse'));
	heals($tallyd);
	is($tallyd->stop, 0, 'drained');
	dig_holes();
	# All that is left.
	open my $file, '>', "$disk/ballast" or die "ballast: $!";
	1 while syswrite $file, "\1" x 4096;
	close $file;
	$tallyd->start_again(expect_failure => 1);
	is($tallyd->exit_status, 1, 'a full disk and holes: it does not start');
	like($tallyd->log_text, qr/cannot be reserved: No space left on device; make room on the disk of the data directory/,
		'... and says what to do');
	make_room();
	ok(eval { $tallyd->start_again; 1 }, 'with room it starts') or diag $@;
	is($tallyd->event('sparse', 1)->{json}{balance}, 2, '... with what it had');
	is($tallyd->stop, 0, 'drained');
	undef $tallyd;
	return;
}

push @mounted, $disk;
Mounts::tmpfs($disk, DISK);
put_ballast();
mkdir "$disk/none", 0700 or die "mkdir: $!";
$tallyd = Tallyd->start(data_dir => "$disk/none", config => { journal_segment => '4M' },
	expect_failure => 1);
is($tallyd->exit_status, 1, 'a full disk and no journal yet: it does not start');
like($tallyd->log_text, qr{none/journal: cannot make the first journal segment: No space left on device; make room},
	'... and says what to do');
make_room();
ok(eval { $tallyd->start_again; 1 }, 'with room it starts') or diag $@;
is($tallyd->stop, 0, 'drained');
undef $tallyd;
Mounts::unmount($disk);
Mounts::tmpfs($disk, DISK);
full_disk('tmpfs');
Mounts::unmount($disk);
Mounts::tmpfs($disk, DISK);
sparse_copy();
Mounts::unmount($disk);

SKIP: {
	skip 'mkfs.ext4 is not installed', 1 unless Mounts::have('mkfs.ext4');
	unshift @mounted, $memory;
	Mounts::tmpfs($memory, '64M');
	open my $image, '>', "$memory/image" or die "image: $!";
	truncate $image, 8 * 1024 * 1024 or die "image: $!";
	close $image;
	my $why = Mounts::failure('mkfs.ext4', '-q', '-F', '-m', 0, '-J', 'size=1', "$memory/image")
		|| Mounts::failure('mount', '-o', 'loop', "$memory/image", $disk);
	skip "no loop device can be mounted here: $why", 1 if defined $why;
	full_disk('ext4');
}

done_testing;
