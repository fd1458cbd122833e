#!/usr/bin/perl
# TLS with hitch in front, as etc/hitch.conf and the manual say: the real hitch.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Front qw(program test_recipe);
use Test::More;

my $hitch = program('hitch');
plan(skip_all => 'hitch is not installed') unless $hitch;

test_recipe('hitch.conf', sub {
		my ($dir, $port, $backend) = @_;
		return {
			'"*"'                   => '"127.0.0.1"',
			'"443"'                 => qq("$port"),
			'/etc/hitch/tallyd.pem' => "$dir/pem",
			'"[127.0.0.1]:7071"'    => $backend =~ m{^/} ? qq("$backend") : qq("[127.0.0.1]:$backend"),
			# Who is not root stays who he is.
			$> == 0 ? () : (qq(user = "_hitch"\n) => '', qq(group = "_hitch"\n) => ''),
		};
	}, sub { my ($file) = @_; return ($hitch, "--config=$file") });
