#!/usr/bin/perl
# The manual pages have no fault that mandoc knows of.
use strict;
use warnings;

use Test::More;

my $source = $ENV{TALLYD_SRC} || '.';
my @pages = glob "'$source'/man/*.[1-9]";

plan skip_all => 'mandoc is not installed' unless grep { -x "$_/mandoc" } split /:/, $ENV{PATH};
cmp_ok(scalar @pages, '>', 0, 'there are pages');
for my $page (@pages) {
	# Whether those that it refers to are there is a matter of what this machine has installed.
	my @faults = grep { !/referenced manual not found/ } `mandoc -T lint '$page' 2>/dev/null`;
	is(join('', @faults), '', $page =~ s{.*/}{}r);
}
done_testing();
