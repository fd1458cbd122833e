package Mounts;

# File systems of a test's own, in namespaces of its own: whatever becomes of the test, its processes
# end with it, the mounts with the last process, and the loop devices with the mounts.
#
#     Mounts::enter();        # first of all; skips the whole test where it is not permitted
#     Mounts::enter('--net', ...);   # with namespaces beyond those of mounts and processes
#     Mounts::tmpfs($directory, '16M');
#     Mounts::machine($directory);   # the whole of this machine, to be changed without a trace

use strict;
use warnings;

use POSIX ();
use Test::More ();
use Tallyd qw(wait_until);

sub have { my ($program) = @_; return grep { -x "$_/$program" } split(/:/, $ENV{PATH}), '/sbin', '/usr/sbin' }

# Runs this very test again within a namespace; returns there.  NEEDED are programs, and options of
# unshare.
sub enter {
	my @more = grep { /^--/ } @_;
	my @needed = grep { !/^--/ } @_;
	return if $ENV{TALLYD_TEST_NAMESPACE} && $ENV{TALLYD_TEST_NAMESPACE} eq $0;
	Test::More::plan(skip_all => 'only root may mount file systems') if $> != 0;
	for my $program ('unshare', 'mount', 'umount', @needed) {
		Test::More::plan(skip_all => "$program is not installed") unless have($program);
	}
	my @unshare = qw(unshare --mount --propagation private --pid --fork --kill-child --mount-proc);
	push @unshare, @more;
	my $why = failure(@unshare, 'true');
	Test::More::plan(skip_all => "no namespace is to be had here: $why") if defined $why;
	$ENV{TALLYD_TEST_NAMESPACE} = $0;
	$ENV{PATH} .= ':/usr/sbin:/sbin';
	exec @unshare, $^X, $0, @ARGV;
	die "cannot run unshare: $!";
}

# Goes on in a child.  The first process of the namespace, which inherits what daemons leave, waits for
# them all: a dead one that nobody waits for looks like one that does not stop.
sub bury {
	my $test = fork;
	die "cannot fork: $!" unless defined $test;
	return if $test == 0;
	while ((my $pid = wait) > 0) {
		POSIX::_exit($? & 127 ? 128 + ($? & 127) : $? >> 8) if $pid == $test;
	}
	POSIX::_exit(1);
}

# Runs a command; returns what it said if it failed, else nothing.
sub failure {
	my (@command) = @_;
	my $pid = open my $output, '-|';
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		{ no warnings 'exec'; exec { $command[0] } @command; }
		print "cannot run $command[0]: $!\n";
		POSIX::_exit(127);
	}
	local $/;
	my $said = <$output>;
	return if close $output;
	chomp $said;
	return $said || "@command: status $?";
}

sub run { my $why = failure(@_); die "@_: $why" if defined $why; return }

sub tmpfs {
	my ($directory, $size) = @_;
	run('mount', '-t', 'tmpfs', '-o', "size=$size,mode=1777", 'tmpfs', $directory);
	return;
}

# Below DIRECTORY/root, what is written there being in memory only: the files of this machine without
# those of other mounts; and /dev, /proc, /run, /sys, /tmp of its own, for chroot.  Returns that root,
# or undef and the reason.
sub machine {
	my ($directory) = @_;
	my $root = "$directory/root";
	tmpfs($directory, '2G');
	for my $name (qw(changes work root)) { mkdir "$directory/$name", 0755 or die "$directory/$name: $!" }
	my $why = failure('mount', '-t', 'overlay', '-o',
		"lowerdir=/,upperdir=$directory/changes,workdir=$directory/work", 'overlay', $root);
	return (undef, $why) if defined $why;
	run('mount', '-t', 'proc', 'proc', "$root/proc");
	# The kernel is not the test's to tune.
	run('mount', '--bind', "$root/proc/sys", "$root/proc/sys");
	run('mount', '-o', 'remount,bind,ro', "$root/proc/sys");
	run('mount', '-t', 'sysfs', '-o', 'ro', 'sysfs', "$root/sys");
	run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', "$root/$_") for qw(dev run);
	run('mount', '-t', 'tmpfs', '-o', 'mode=1777', 'tmpfs', "$root/tmp");
	for my $device (qw(null zero full random urandom tty)) {
		open my $file, '>', "$root/dev/$device" or die "$root/dev/$device: $!";
		run('mount', '--bind', "/dev/$device", "$root/dev/$device");
	}
	symlink '/proc/self/fd', "$root/dev/fd";
	symlink 'pts/ptmx', "$root/dev/ptmx";
	for my $name (qw(shm pts)) { mkdir "$root/dev/$name" or die "$root/dev/$name: $!" }
	tmpfs("$root/dev/shm", '1G');
	run('mount', '-t', 'devpts', '-o', 'newinstance,ptmxmode=0666', 'devpts', "$root/dev/pts");
	return $root;
}

# A process that was just killed may hold it a moment longer.
sub unmount {
	my ($directory) = @_;
	my $why;
	wait_until { $why = failure('umount', $directory); !defined $why } 10;
	die "umount $directory: $why" if defined $why;
	return;
}

1;
