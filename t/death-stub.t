#!/usr/bin/perl
# The tests of death at every instruction must notice it when nothing is repaired: t/death-stub and
# t/room-stub are the same programs on a library whose repair does nothing (-DTALLYD_STUB_REPAIR).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Tallyd qw(build_dir slurp);
use Test::More;

plan skip_all => 'that these tests can fail is seen without sanitizers'
	if slurp(build_dir() . '/Makefile') =~ /^HARDEN_CFLAGS = .*-fsanitize/m;

my %stub = (
	'death-stub' => {
		stride => 20,
		red => { 'a post' => 'of a post', 'five accounts in three stripes' => 'of several accounts',
			'a group of three records' => 'of a group of records', '... and its repairs' => 'of repairs' },
		green => 'a post refused for overflow',
	},
	'room-stub' => {
		stride => 1009, # what changes something is tried anyhow
		red => { map { ("to $_" => "of a member that is to $_") } 'enter', 'speak', 'be renamed', 'leave' },
		green => 'to enter is left half done',
	},
);

sub test_stub {
	my ($name) = @_;
	my $stub = $stub{$name};
	my $program = build_dir() . "/t/$name";
	plan skip_all => "$program is not built: make check does it" unless -x $program;
	local $ENV{TALLYD_DEATH_STRIDE} = $stub->{stride};
	my $output = qx('$program' 2>&1);
	my $status = $?;
	plan skip_all => $1 if $output =~ /((?:SKIP|skip) .*ptrace.*)/m;
	isnt($status, 0, 'without repair the test fails');
	like($output, qr/^not ok \d+ - \Q$_\E:/m, "... $stub->{red}{$_}") for sort keys %{ $stub->{red} };
	like($output, qr/^ok \d+ - \Q$stub->{green}\E/m, '... and passes where nothing is to repair');
	like($output, qr/^1\.\.\d+$/m, 'it came to its end');
	return;
}

for my $name (sort keys %stub) {
	subtest $name => sub { test_stub($name) };
}
done_testing();
