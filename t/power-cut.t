#!/usr/bin/perl
# Power cuts: the data directory is on an ext4 of its own that is shut down without a flush under
# load, as if the machine had lost its power.  What was acknowledged must be there afterwards, of
# plain events and of every kind of operation; and a daemon that only pretends to sync must be
# caught by both.
#
# TALLYD_POWER_CUT_ROUNDS (default 12), TALLYD_POWER_CUT_BANK (default 6: with every operation)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Bank;
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
	ANSWERS           => 200,   # that the bank gives before a cut
	TOLD              => 10,    # differences that are printed
};

Mounts::enter('mkfs.ext4', 'losetup');

my $rounds = $ENV{TALLYD_POWER_CUT_ROUNDS} || 12;
my $bank_rounds = $ENV{TALLYD_POWER_CUT_BANK} || 6;
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
	$tallyd->try_kill9;
	return;
}

# The power fails in a while, and comes back; nothing runs.
sub black_out {
	my ($tallyd) = @_;
	sleep rand LOAD;
	my $why = cut_power();
	die "$why\n" if defined $why;
	sleep rand AFTERMATH;
	kill_all($tallyd);
	Mounts::unmount($disk);
	$why = mount_disk();
	die "mount: $why\n" if defined $why;
	return;
}

# One round of plain events.  What the hammer was told, or dies.
sub round {
	my ($tallyd) = @_;
	my $hammer = Hammer->start($tallyd, connections => 8, depth => 2, accounts => 40, grace => 0);
	$hammer->wait_more(100) or die "nothing is accepted; the log:\n" . $tallyd->log_tail;
	black_out($tallyd);
	return $hammer->finish;
}

# The bank's customers go on through cuts, under the same ids, for as long as the daemon starts
# again.  On a disk that is gone, an answer that must be read from it is a 500.
sub bank_through_cuts {
	my ($tallyd, $cuts, $prefix) = @_;
	my $bank = Bank->open($tallyd, dir => $top, prefix => $prefix, accounts => 100, customers => 8,
		undecided => qr/^(?:408|50\d)$/);
	for (1 .. $cuts) {
		$bank->wait_more(ANSWERS) or die "the bank has no answers; the log:\n" . $tallyd->log_tail;
		black_out($tallyd);
		$tallyd->start_again;
	}
	$bank->wait_more(ANSWERS) or die "the bank has no answers; the log:\n" . $tallyd->log_tail;
	$bank->close or die 'a customer was not answered';
	return $bank->testimony;
}

sub bank_differences { my ($tallyd, $told) = @_; return Bank::differences($told, Bank::books($tallyd)) }

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
	config => { journal_segment => '256K', snapshot_every => '256K', default_floor => 0 });
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

# ---- every kind of operation

my $heard = eval { bank_through_cuts($tallyd, $bank_rounds, 'cut') };
ok($heard, "$bank_rounds power cuts under a bank: all its customers are answered") or diag $@;
if ($heard) {
	note join ', ', map { "$_: $heard->{kinds}{$_}" } sort keys %{ $heard->{kinds} };
	my @wrong = bank_differences($tallyd, $heard);
	is(scalar @wrong, 0, '... and the books follow from the answers');
	diag $_ for splice @wrong, 0, TOLD;
	is_deeply([Bank::asked_again($heard, $tallyd)], [],
		'... and every id is answered as before, byte for byte');
}
is($tallyd->stop, 0, 'drained') if $tallyd->pid;
my $why = Mounts::failure(build_dir() . '/tallyctl', '-d', "$disk/data", 'journal', 'check');
is($why, undef, '... and tallyctl journal check finds nothing');
undef $tallyd;
Mounts::unmount($disk);

# ---- without fdatasync

# Does FIND lose anything, given a daemon that does not sync on a new disk?
sub is_caught {
	my ($binary, $what, $find) = @_;
	my $impossible = make_disk();
	die "another disk: $impossible" if defined $impossible;
	mkdir "$disk/data", 0700 or die "mkdir: $!";
	$tallyd = Tallyd->start(data_dir => "$disk/data", binary => $binary,
		config => { snapshot_every => 0, default_floor => 0 });
	my @lost = eval { $find->() };
	if ($@) {
		die $@ unless $@ =~ /^tallyd (?:exited|did not serve)/;
		@lost = ($@);
	}
	isnt(scalar @lost, 0, "a daemon that does not sync is caught by $what");
	note $_ for splice @lost, 0, TOLD;
	eval { $tallyd->kill9 };
	undef $tallyd;
	Mounts::unmount($disk);
	return;
}

SKIP: {
	my $unsynced = build_dir() . '/tallyd-stub-fdatasync';
	skip "$unsynced is not built", 2 unless -x $unsynced;
	is_caught($unsynced, 'its events', sub {
		my (@lost, @told);
		for (1 .. UNSYNCED_ROUNDS) {
			push @told, round($tallyd);
			$tallyd->start_again;
			@lost = Hammer::lost($tallyd, @told) and last;
		}
		return @lost;
	});
	is_caught($unsynced, 'the bank', sub {
		return bank_differences($tallyd, bank_through_cuts($tallyd, 1, 'unsynced'));
	});
}

done_testing;
