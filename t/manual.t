#!/usr/bin/perl
# The manual pages have no fault that mandoc knows of, and fit on the page that groff makes; and
# tallyd-http(7) names every reason that the code knows, with its status, and no other.
use strict;
use warnings;

use Test::More;

my $source = $ENV{TALLYD_SRC} || '.';

sub slurp {
	my ($path) = @_;
	open my $file, '<', $path or die "cannot read $path: $!";
	local $/;
	return scalar <$file>;
}

# ---- the table of reasons

# "400 invalid_json" of src/wire/reason.c's table.
sub known {
	my ($table) = slurp("$source/src/wire/reason.c") =~ /reasons\[\] = \{(.*?)\n\};/s or die 'no table';
	my @known;
	push @known, "$2 $1" while $table =~ /\{"(\w+)",\s*(\d+),/g;
	my $entries = () = $table =~ /\{"/g;
	is(scalar @known, $entries, 'every entry of the table was read');
	return sort @known;
}

sub described {
	my @described;
	for (split /\n/, slurp("$source/man/tallyd-http.7")) {
		push @described, "$1 $2" if /^\.It (\d{3})\*? Ta (\w+) Ta \S/;
	}
	return sort @described;
}

# Reasons that stand in the sources themselves, "400 word" or "word", and a file with them.
sub used {
	my %used;
	for my $file (glob "'$source'/src/{wire,server}/*.c") {
		my $text = slurp($file);
		$used{$1} = $file while $text =~ /\b(?:answer_reason|refuse_condition|json_refuse|json_refuse_key|refuse)\([^;"]*"([a-z_]{4,})"/g;
		$used{$1} = $file while $text =~ /\.reason = "(\w+)"/g;
		$used{"$1 $2"} = $file while $text =~ /\b(?:answer_error|http_refuse)\([^;"]*?\b(\d{3}),\s*"(\w+)"/g;
	}
	return %used;
}

my @known = known();
cmp_ok(scalar @known, '>', 80, 'the code knows reasons');
is_deeply([described()], \@known, 'tallyd-http(7) has each reason with its status, and no other');
my %know = map { $_ => 1, (split)[1] => 1 } @known;
my %used = used();
cmp_ok(scalar keys %used, '>', 40, 'reasons are used');
my @unknown = map { "$_ in $used{$_}" } grep { !$know{$_} } sort keys %used;
is(join("\n", @unknown), '', 'and those that are are in the table');

# ---- mandoc

my @pages = glob "'$source'/man/*.[1-9]";

cmp_ok(scalar @pages, '>', 0, 'there are pages');
sub has { my ($program) = @_; return grep { -x "$_/$program" } split /:/, $ENV{PATH} }

SKIP: {
	skip 'mandoc is not installed', scalar @pages unless has('mandoc');
	for my $page (@pages) {
		# Whether those that it refers to are there is a matter of what this machine has installed.
		my @faults = grep { !/referenced manual not found/ } `mandoc -T lint '$page' 2>/dev/null`;
		is(join('', @faults), '', $page =~ s{.*/}{}r);
	}
}

# ---- groff, with which man(1) shows them: what is too wide for a column is broken after each letter

SKIP: {
	skip 'groff is not installed', scalar @pages unless has('groff');
	for my $page (@pages) {
		my @faults = grep { /can't break line/ } `groff -mandoc -Tutf8 -ww '$page' 2>&1 >/dev/null`;
		is(join('', @faults), '', ($page =~ s{.*/}{}r) . ' fits');
	}
}
done_testing();
