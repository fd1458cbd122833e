#!/usr/bin/perl
# The README's tour, run: each command gives the output that stands below it, but for times and
# positions in the journal.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Tallyd qw(slurp source_dir build_dir);
use Test::More;

use constant COMMANDS => 8; # at least so many

my ($tour) = slurp(source_dir() . '/README.md') =~ /^## A minute's tour\n(.*?)^## /ms;
ok(defined $tour, 'there is a tour') or BAIL_OUT 'no tour';
# An example is indented: a command, which goes on where a line ends with a pipe, then its output.
my @examples;
for my $line (split /\n/, $tour) {
	if ($line =~ /^    \$ (.*)/) {
		push @examples, { command => $1, output => '' };
	} elsif (@examples && $examples[-1]{command} =~ /\|$/ && $line =~ /^    (.*)/) {
		$examples[-1]{command} .= " $1";
	} elsif (@examples && $line =~ /^    (.*)/) {
		$examples[-1]{output} .= "$1\n";
	}
}

sub plain {
	my ($text) = @_;
	$text =~ s/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/TIME/g;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/LOCAL TIME/g;
	$text =~ s/("lsn":"|before=|^lsn +)\d+/$1LSN/mg;
	$text =~ s/\n*\z/\n/;
	return $text;
}

my $build = build_dir();
$build = "$ENV{PWD}/$build" unless $build =~ m{^/};
chdir tempdir(CLEANUP => 1) or die "cannot enter a directory of my own: $!";
# With room in its journal, as the defaults have it: a load must not meet queue_full.
my $tallyd = Tallyd->start(config => { ring_size => '8M', journal_segment => '16M' });
my $address = $tallyd->address;
my $asked = 0;
for my $example (@examples) {
	next if $example->{command} =~ /pkill/; # t/storm.t and t/restart.t do that
	my $command = $example->{command} =~ s/127\.0\.0\.1:7070/$address/gr;
	$command =~ s{\bbuild/}{$build/}g;
	$command =~ s{-d var\b}{"-d '" . $tallyd->data_dir . "'"}e;
	my $said = `$command 2>/dev/null`;
	is(plain($said), plain($example->{output}), $example->{command});
	$asked++;
}
cmp_ok($asked, '>=', COMMANDS, 'the tour is a tour');
is($tallyd->stop, 0, 'it stops');
done_testing;
