#!/usr/bin/perl
# The layers of the house, held by reading every #include of shm/ and src/: who may know whom.
# First the test tests itself: a made-up tree for each forbidden arrow must be refused.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Spec;
use File::Temp qw(tempdir);
use FindBin;
use Test::More;

# Each room, and the files of other rooms that it may include, as patterns of paths.  A room knows
# itself, and nothing that is not written here.
my @ROOMS = (
	{ room => 'shm',        knows => [] },
	{ room => 'src/base',   knows => [] },
	{ room => 'src/ledger', knows => [qr{^shm/}] },
	{ room => 'src/wire',   knows => [qr{^src/ledger/event\.h$}] },
	{ room => 'src/server', knows => [
			qr{^src/ledger/(?:event|facts|history|ledger|tail)\.h$}, qr{^src/wire/}, qr{^src/base/},
			qr{^shm/(?:clients|counter|room)\.h$},
		] },
	{ room => 'src/server/chat', knows => [
			qr{^src/server/(?:chat_protocol|connection|feed|release)\.h$}, qr{^src/ledger/(?:event|tail)\.h$}, qr{^src/wire/},
			qr{^src/base/}, qr{^shm/(?:counter|room)\.h$},
		] },
	{ room => 'src/server/redis', knows => [
			qr{^src/server/(?:auth|connection|handlers|hold_id|note|walk)\.h$}, qr{^src/ledger/(?:event|facts|ledger)\.h$}, qr{^src/wire/},
			qr{^src/base/}, qr{^shm/counter\.h$},
		] },
	{ room => 'src/daemon', knows => [qr{^shm/}, qr{^src/(?:base|ledger|wire|server)/}] },
	{ room => 'src/tools',  knows => [qr{^shm/}, qr{^src/(?:base|ledger|wire|tools/http)/}] },
	{ room => 'src/tools/bench', knows => [qr{^shm/}, qr{^src/(?:base|ledger|wire|tools/http)/}] },
	{ room => 'src/tools/http', knows => [] },
);

# Files that may know more than their room, and what.
my @PERMITTED = (
	# The door to that room.
	{ file => qr{^src/server/redis_protocol\.c$}, what => qr{^src/server/redis/redis\.h$} },
	{ file => qr{^src/server/chat_protocol\.c$}, what => qr{^src/server/chat/chat\.h$} },
	# Both understand the configuration alike because one reader reads it.
	{ file => qr{^src/tools/configuration\.c$}, what => qr{^src/daemon/config\.h$} },
);

# Files that may know less than their room.
my @FORBIDDEN = (
	{ file => qr{^src/daemon/(?:master|reload|seat)[^/]*$}, what => qr{^shm/(?:lock|table|operation)\.h$},
		why => 'the master takes no lock and touches no slot' },
);

# Libraries that only some may use.
my %LIBRARIES = (
	'ev.h'      => qr{^src/(?:server|tools/bench)/},
	'jsmn.h'    => qr{^src/wire/json[^/]*\.c$},
	'confuse.h' => qr{^src/daemon/config\.c$},
	'sha256.h'  => qr{^src/wire/token\.c$},
	'xxhash.h'  => qr{^src/(?:ledger|tools)/},
);

# Top-level directories that hold no code of ours to check; builds may be anywhere else.
my %ELSEWHERE = map { $_ => 1 } qw(etc man t var m4);

# Every C file below ROOT that is ours, as a path relative to it.
sub sources {
	my ($root, $under) = @_;
	my @found;
	opendir my $directory, $under eq '' ? $root : "$root/$under" or die "cannot read $root/$under: $!";
	for my $name (sort readdir $directory) {
		next if $name =~ /^[._]/;
		my $path = $under eq '' ? $name : "$under/$name";
		if (-d "$root/$path") {
			next if $under eq '' && ($ELSEWHERE{$name} || -e "$root/$path/config.status"
				|| $name =~ /^(?:build|autom4te|tallyd-)/);
			push @found, sources($root, $path);
		} elsif ($name =~ /\.(?:[chS]|inc|cc|cpp|hpp)$/) {
			push @found, $path;
		}
	}
	return @found;
}

# "src/wire" and "../ledger/event.h" make "src/ledger/event.h"; what leads out of the tree begins
# with "..".
sub resolve {
	my ($from, $relative) = @_;
	return $relative if $relative =~ m{^/};
	my @path = split m{/}, $from;
	for my $part (split m{/}, $relative) {
		next if $part eq '.' || $part eq '';
		if ($part eq '..' && @path && $path[-1] ne '..') {
			pop @path;
		} else {
			push @path, $part;
		}
	}
	return join '/', @path;
}

# [line number, quote, name] of each #include; the name is undef if it cannot be read.
sub includes {
	my ($path) = @_;
	open my $file, '<', $path or die "cannot read $path: $!";
	local $/;
	my $text = <$file>;
	# Comments may hold anything, and a line may be continued; the count of lines is kept.
	$text =~ s{\\\n}{\001}g;
	$text =~ s{("(?:[^"\\\n]|\\.)*")|/\*(.*?)\*/|//[^\n]*}
		{defined $1 ? $1 : ' ' . ("\n" x (defined $2 ? $2 =~ tr/\n// : 0))}gse;
	my ($number, @found) = (0);
	for (split /\n/, $text) {
		$number++;
		my $line = $_;
		$number += $line =~ tr/\001//d;
		next unless $line =~ /^\s*(?:#|%:|\?\?=)\s*(?:include|include_next|import|embed)\b\s*(.*)/;
		push @found, $1 =~ /^(["<])([^">]+)[">]\s*$/ ? [$number, $1, $2] : [$number, '', undef];
	}
	return @found;
}

# Why PATH in ROOM may not include NAME; undef if it may.
sub objection {
	my ($root, $path, $room, $quote, $name) = @_;
	return 'cannot be read: write the name itself' unless defined $name;
	if ($quote eq '<') {
		my $users = $LIBRARIES{$name};
		return "<$name> is not for this file" if $users && $path !~ $users;
		return "<$name> names a file of this house" if -e "$root/$name" || -e "$root/src/$name";
		return;
	}
	my $target = resolve(dirname($path), $name);
	return "\"$name\" is not a file of this house" unless $target !~ m{^(?:\.\.|/)} && -f "$root/$target";
	return "\"$name\" is not a header" unless $target =~ /\.h$/;
	return "\"$name\": $_->{why}" for grep { $path =~ $_->{file} && $target =~ $_->{what} } @FORBIDDEN;
	return if dirname($target) eq $room->{room};
	return if grep { $target =~ $_ } @{ $room->{knows} };
	return if grep { $path =~ $_->{file} && $target =~ $_->{what} } @PERMITTED;
	return "$room->{room}/ must not know $target";
}

sub violations {
	my ($root) = @_;
	my @violations;
	for my $path (sources($root, '')) {
		my ($room) = grep { $_->{room} eq dirname($path) } @ROOMS;
		if (!$room) {
			push @violations, "$path: is in no room of the house";
			next;
		}
		for (includes("$root/$path")) {
			my ($line, $quote, $name) = @$_;
			my $why = objection($root, $path, $room, $quote, $name);
			push @violations, "$path:$line: $why" if $why;
		}
	}
	return @violations;
}

# ---- the test of the test

my @HEADERS = qw(shm/lock.h shm/table.h shm/ring.h shm/operation.h shm/counter.h src/base/log.h
	src/ledger/event.h src/ledger/ledger.h src/ledger/store.h src/wire/http.h src/server/server.h
	src/daemon/config.h src/tools/client.h src/tools/bench/run.h);

sub write_file {
	my ($path, $text) = @_;
	make_path(dirname($path));
	open my $file, '>', $path or die "cannot write $path: $!";
	print {$file} $text;
	close $file or die "cannot write $path: $!";
	return;
}

# The violations of a sound tree with one more FILE whose text is TEXT.
sub verdict {
	my ($file, $text) = @_;
	my $root = tempdir(CLEANUP => 1);
	write_file("$root/$_", "#include <stdint.h>\n") for @HEADERS;
	write_file("$root/$file", $text) if defined $file;
	return violations($root);
}

my @ALLOWED = (
	['shm/table.c',           'lock.h'],
	['src/base/log.c',        'log.h'],
	['src/ledger/ledger.c',   '../../shm/table.h'],
	['src/wire/json.c',       '../ledger/event.h'],
	['src/wire/json_check.c', '<jsmn.h>'],
	['src/server/worker.c',   '../../shm/counter.h'],
	['src/server/worker.c',   '../ledger/ledger.h'],
	['src/server/worker.c',   '../wire/http.h'],
	['src/server/worker.c',   '../base/log.h'],
	['src/server/worker.c',   '<ev.h>'],
	['src/daemon/journal.c',  '../../shm/ring.h'],
	['src/daemon/master.c',   '../../shm/counter.h'],
	['src/daemon/master.c',   '../server/server.h'],
	['src/daemon/config.c',   '<confuse.h>'],
	['src/ledger/record.c',   '<xxhash.h>'],
	['src/tools/tallyctl.c',  '../ledger/store.h'],
	['src/tools/tallyctl.c',  '../base/log.h'],
	['src/tools/bench/run.c', '<ev.h>'],
	['src/tools/bench/run.c', '../../wire/http.h'],
	['src/tools/configuration.c', '../daemon/config.h'],
	['t/anything.c',          '../src/server/server.h'],
);

my @REFUSED = (
	['shm/table.c',            '../src/base/log.h'],
	['shm/table.c',            '../src/ledger/event.h'],
	['shm/table.c',            '<xxhash.h>'],
	['shm/table.c',            '<ev.h>'],
	['src/base/log.c',         '../../shm/counter.h'],
	['src/base/log.c',         '../ledger/event.h'],
	['src/ledger/ledger.c',    '../base/log.h'],
	['src/ledger/ledger.c',    '../wire/http.h'],
	['src/ledger/ledger.c',    '../server/server.h'],
	['src/ledger/ledger.c',    '../daemon/config.h'],
	['src/ledger/ledger.c',    '<ev.h>'],
	['src/ledger/ledger.c',    '<jsmn.h>'],
	['src/wire/http.c',        '../ledger/ledger.h'],
	['src/wire/http.c',        '../../shm/counter.h'],
	['src/wire/http.c',        '../base/log.h'],
	['src/wire/http.c',        '../server/server.h'],
	['src/wire/http.c',        '<jsmn.h>'],
	['src/wire/json.h',        '<jsmn.h>'],
	['src/server/worker.c',    '../../shm/table.h'],
	['src/server/worker.c',    '../../shm/ring.h'],
	['src/server/worker.c',    '../../shm/operation.h'],
	['src/server/worker.c',    '../../shm/lock.h'],
	['src/server/worker.c',    '../ledger/store.h'],
	['src/server/worker.c',    '../daemon/config.h'],
	['src/server/worker.c',    '<jsmn.h>'],
	['src/server/worker.c',    '<confuse.h>'],
	['src/daemon/master.c',    '../../shm/lock.h'],
	['src/daemon/master.c',    '../../shm/table.h'],
	['src/daemon/master_up.c', '../../shm/operation.h'],
	['src/daemon/main.c',      '../tools/client.h'],
	['src/daemon/main.c',      '<ev.h>'],
	['src/daemon/main.c',      '<confuse.h>'],
	['src/tools/tallyctl.c',   '../server/server.h'],
	['src/tools/tallyctl.c',   '../daemon/config.h'],
	['src/tools/tallyctl.c',   '<ev.h>'],
	['src/tools/bench/run.c',  '../client.h'],
	['src/tools/bench/run.c',  '../../server/server.h'],
	['src/tools/bench/run.c',  '../../daemon/config.h'],
	['src/daemon/main.c',      '../tools/bench/run.h'],
	['src/lost.c',             '<stdint.h>'],
	['lost.h',                 '<stdint.h>'],
	['src/newroom/a.c',        '<stdint.h>'],
	['src/wire/deep/a.c',      '<stdint.h>'],
	['src/ledger/ledger.c',    'missing.h'],
	['src/ledger/ledger.c',    '../../../outside.h'],
	['src/ledger/ledger.c',    '/usr/include/ev.h'],
	['src/server/worker.c',    '<shm/table.h>'],
	['src/server/worker.c',    '../base/../../shm/table.h'],
);

sub include_line {
	my ($name) = @_;
	return $name =~ /^</ ? "#include $name\n" : "#include \"$name\"\n";
}

is_deeply([verdict()], [], 'a sound tree passes');
is_deeply([verdict($_->[0], include_line($_->[1]))], [], "$_->[0] may include $_->[1]") for @ALLOWED;
for (@REFUSED) {
	my @found = verdict($_->[0], include_line($_->[1]));
	is(scalar @found, 1, "$_->[0] must not include $_->[1]") or diag explain \@found;
}

my %DISGUISES = (
	'spaces'             => "  #  include   <ev.h>  \n",
	'a comment before'   => "/* one */ #include <ev.h>\n",
	'a comment within'   => "#include/**/<ev.h>\n",
	'a comment after'    => "#include <ev.h> // why\n",
	'a continued line'   => "#inc\\\nlude <ev.h>\n",
	'a macro'            => "#define LOOP <ev.h>\n#include LOOP\n",
	'a source file'      => qq(#include "../server/server.c"\n),
	'after a string'     => qq(const char *a = "/*";\n#include <ev.h>\n),
);
is(scalar verdict('src/daemon/main.c', $DISGUISES{$_}), 1, "a forbidden #include is seen: $_")
	for sort keys %DISGUISES;
is_deeply([verdict('src/daemon/main.c', "/*\n#include <ev.h>\n*/\n")], [], 'a comment includes nothing');
is_deeply([verdict('src/daemon/main.c', "\n/*\n*/\n#include <ev.h>\n")],
	['src/daemon/main.c:4: <ev.h> is not for this file'], 'a violation names file and line');

# ---- the house itself

my $root = $ENV{TALLYD_LAYERS_ROOT} || $ENV{TALLYD_SRC} || "$FindBin::RealBin/..";
my @files = sources($root, '');
cmp_ok(scalar @files, '>', 0, 'there are sources in ' . File::Spec->rel2abs($root));
is(join("\n", violations($root)), '', 'every #include of the house points the right way');

done_testing();
