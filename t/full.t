#!/usr/bin/perl
# No room: in /dev/shm, where tallyd must not start, and say why; on the disk, where it goes on
# reading, takes no update, and heals by itself once there is room.

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
my $words = qr/cannot make the shared memory .* bytes: No space left on device; enlarge \/dev\/shm or lower max_accounts and ring_size/;
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

# What a full disk looks like from outside.
sub is_full {
	my ($tallyd, $told) = @_;
	my $answer = $tallyd->event('full', 1);
	is($answer->{status}, 507, 'an update: 507');
	is($answer->{json}{reason}, 'disk_full', '... disk_full');
	is($tallyd->balance('full'), undef, '... and not applied');
	$answer = $tallyd->request('GET', '/healthz');
	is("$answer->{status} $answer->{json}{reason}", '503 disk_full', '/healthz: 503 disk_full');
	is_deeply([Hammer::lost($tallyd, $told)], [], 'balances are read, and right');
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
	my @told = fill($tallyd, 'first');
	like($tallyd->log_text, qr/cannot make the next journal segment: No space left on device;.*Make room/,
		"$kind: the log says what to do");
	is_full($tallyd, $told[0]);
	heals($tallyd);
	like($tallyd->log_text, qr/the journal has room again/, '... and says so');

	put_ballast();
	push @told, fill($tallyd, 'second');
	for my $restart (1 .. RESTARTS) {
		$restart % 2 ? $tallyd->kill9 : is($tallyd->stop, 0, 'drained on a full disk');
		$tallyd->start_again(expect_health => 503);
		is_full($tallyd, $_) for @told;
	}
	heals($tallyd);
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
