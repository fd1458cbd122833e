package Mounts;

# File systems of a test's own, in namespaces of its own: whatever becomes of the test, its processes
# end with it, the mounts with the last process, and the loop devices with the mounts.
#
#     Mounts::enter();        # first of all; skips the whole test where it is not permitted
#     Mounts::tmpfs($directory, '16M');

use strict;
use warnings;

use POSIX ();
use Test::More ();
use Tallyd qw(wait_until);

sub have { my ($program) = @_; return grep { -x "$_/$program" } split(/:/, $ENV{PATH}), '/sbin', '/usr/sbin' }

# Runs this very test again within a namespace; returns there.  NEEDED are programs.
sub enter {
	my (@needed) = @_;
	return if $ENV{TALLYD_TEST_NAMESPACE} && $ENV{TALLYD_TEST_NAMESPACE} eq $0;
	Test::More::plan(skip_all => 'only root may mount file systems') if $> != 0;
	for my $program ('unshare', 'mount', 'umount', @needed) {
		Test::More::plan(skip_all => "$program is not installed") unless have($program);
	}
	my @unshare = qw(unshare --mount --propagation private --pid --fork --kill-child --mount-proc);
	my $why = failure(@unshare, 'true');
	Test::More::plan(skip_all => "no namespace is to be had here: $why") if defined $why;
	$ENV{TALLYD_TEST_NAMESPACE} = $0;
	$ENV{PATH} .= ':/usr/sbin:/sbin';
	exec @unshare, $^X, $0, @ARGV;
	die "cannot run unshare: $!";
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

# A process that was just killed may hold it a moment longer.
sub unmount {
	my ($directory) = @_;
	my $why;
	wait_until { $why = failure('umount', $directory); !defined $why } 10;
	die "umount $directory: $why" if defined $why;
	return;
}

1;
