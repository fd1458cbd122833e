#!/usr/bin/perl
# Power cuts: the data directory is on an ext4 of its own that is shut down without a flush under
# load, as if the machine had lost its power.  What was acknowledged must be there afterwards; and
# a daemon that only pretends to sync must be caught.
#
# TALLYD_POWER_CUT_ROUNDS (default 12)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use File::Temp ();
use Hammer;
use Mounts;
use Tallyd qw(build_dir);
use Test::More;
use Time::HiRes qw(sleep);

use constant {
	EXT4_IOC_SHUTDOWN => 0x8004587d,
	NOLOGFLUSH        => 2,     # the flag for it: not even the journal of the file system is saved
	IMAGE             => 1 << 30, # bytes, sparse
	LOAD              => 0.4,   # seconds, at most, of load before a cut
	AFTERMATH         => 0.05,  # seconds, at most, that the daemon runs on a dead disk
	UNSYNCED_ROUNDS   => 3,
};

Mounts::enter('mkfs.ext4', 'losetup');

my $rounds = $ENV{TALLYD_POWER_CUT_ROUNDS} || 12;
my $top = File::Temp::tempdir('tallyd-power-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
my ($memory, $disk) = ("$top/memory", "$top/disk");
mkdir $_ or die "mkdir $_: $!" for $memory, $disk;
Mounts::tmpfs($memory, '2G');

# Before File::Temp removes the directory.
END {
	if (defined $top) {
		local $?;
		Mounts::failure('umount', '-l', $_) for $disk, $memory;
	}
}

sub mount_disk { return Mounts::failure('mount', '-o', 'loop', "$memory/image", $disk) }

sub make_disk {
	open my $image, '>', "$memory/image" or die "image: $!";
	truncate $image, IMAGE or die "image: $!";
	close $image;
	return Mounts::failure('mkfs.ext4', '-q', '-F', "$memory/image") || mount_disk();
}

sub cut_power {
	open my $root, '<', $disk or die "$disk: $!";
	my $flag = pack 'L', NOLOGFLUSH;
	return if ioctl $root, EXT4_IOC_SHUTDOWN, $flag;
	return "EXT4_IOC_SHUTDOWN: $!";
}

# Everything dies, as far as the daemon has not ended by itself.
sub kill_all {
	my ($tallyd) = @_;
	eval { $tallyd->kill9; 1 } or defined $tallyd->exit_status or die $@;
	return;
}

# One round: load, cut, remount, start.  What the hammer was told, or dies.
sub round {
	my ($tallyd) = @_;
	my $hammer = Hammer->start($tallyd, connections => 8, depth => 2, accounts => 40, grace => 0);
	$hammer->wait_more(100) or die "nothing is accepted; the log:\n" . $tallyd->log_tail;
	sleep rand LOAD;
	my $why = cut_power();
	die "$why\n" if defined $why;
	sleep rand AFTERMATH;
	kill_all($tallyd);
	my $told = $hammer->finish;
	Mounts::unmount($disk);
	$why = mount_disk();
	die "mount: $why\n" if defined $why;
	return $told;
}

my $impossible = make_disk();
plan skip_all => "no loop device can be mounted here: $impossible" if defined $impossible;
my $deaf = cut_power();
plan skip_all => "this kernel cannot shut an ext4 down: $deaf" if defined $deaf;
Mounts::unmount($disk);

# ---- as it is built

$impossible = make_disk();
die "the second disk: $impossible" if defined $impossible;
mkdir "$disk/data", 0700 or die "mkdir: $!";
my $tallyd = Tallyd->start(data_dir => "$disk/data",
	config => { journal_segment => '256K', snapshot_every => '256K' });
my @told;
my ($acknowledged, $unknown) = (0, 0);
for my $round (1 .. $rounds) {
	push @told, round($tallyd);
	$acknowledged += $told[-1]{acknowledged};
	$unknown += $told[-1]{unknown};
	my $started = eval { $tallyd->start_again; 1 };
	ok($started, "power cut $round: it starts again") or do { diag $@; last };
	is_deeply([Hammer::lost($tallyd, @told)], [], '... with all that was acknowledged');
	is_deeply([Hammer::oddities($told[-1])], [], '... and no answer was wrong');
}
note "$acknowledged acknowledged, $unknown unknown";
cmp_ok($unknown, '>', 0, 'the cuts came under load');
is($tallyd->stop, 0, 'drained') if $tallyd->pid;
undef $tallyd;
Mounts::unmount($disk);

# ---- without fdatasync

SKIP: {
	my $unsynced = build_dir() . '/tallyd-stub-fdatasync';
	skip "$unsynced is not built", 1 unless -x $unsynced;
	$impossible = make_disk();
	die "the third disk: $impossible" if defined $impossible;
	mkdir "$disk/data", 0700 or die "mkdir: $!";
	$tallyd = Tallyd->start(data_dir => "$disk/data", binary => $unsynced,
		config => { snapshot_every => 0 });
	my @lost;
	@told = ();
	for (1 .. UNSYNCED_ROUNDS) {
		push @told, round($tallyd);
		eval { $tallyd->start_again; @lost = Hammer::lost($tallyd, @told); 1 }
			or @lost = ('it does not start');
		last if @lost;
	}
	isnt(scalar @lost, 0, 'a daemon that does not sync is caught');
	note $_ for @lost;
	eval { $tallyd->kill9 };
}

done_testing;
