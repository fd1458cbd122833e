#!/usr/bin/perl
# The test of death at every instruction must notice it when nothing is repaired: t/death-stub is
# the same program on a library whose repair does nothing (-DTALLYD_STUB_REPAIR).

use strict;
use warnings;

use Test::More;

my $program = ($ENV{TALLYD_BUILD} // '.') . '/t/death-stub';
plan skip_all => "$program is not built: make check does it" unless -x $program;

$ENV{TALLYD_DEATH_STRIDE} = 20;
my $output = qx('$program' 2>&1);
my $status = $?;

plan skip_all => $1 if $output =~ /^1\.\.0 # SKIP (.*)/m;
isnt($status, 0, 'without repair the test fails');
like($output, qr/^not ok \d+ - a post:/m, '... of a post');
like($output, qr/^not ok \d+ - five accounts in three stripes:/m, '... of several accounts');
like($output, qr/^not ok \d+ - a group of three records:/m, '... of a group of records');
like($output, qr/^not ok \d+ - [.]{3} and its repairs:/m, '... of repairs');
like($output, qr/^ok \d+ - a post refused for overflow/m, '... and passes where nothing is to repair');
like($output, qr/^1\.\.\d+$/m, 'it came to its end');

done_testing();
