#!/usr/bin/perl
# TLS with nginx in front, as etc/nginx.conf and the manual say: the real nginx with its module stream.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Front qw(program test_recipe);
use Test::More;

my $nginx = program('nginx');
plan(skip_all => 'nginx is not installed') unless $nginx;

# Built in, or a module of Debian's package libnginx-mod-stream.
my ($module) = grep { -e } map { "$_/ngx_stream_module.so" } '/usr/lib/nginx/modules', '/usr/share/nginx/modules';
my $built_in = `$nginx -V 2>&1` =~ /--with-stream(?: |$)/;
plan(skip_all => 'nginx has no module stream (libnginx-mod-stream)') unless $module || $built_in;

sub write_main {
	my ($file, $dir) = @_;
	open my $main, '>', "$dir/main.conf" or die "cannot write: $!";
	print {$main} $module && !$built_in ? "load_module $module;\n" : '', "daemon off;\npid $dir/nginx.pid;\nerror_log $dir/error.log;\n",
		"worker_processes 2;\nevents { worker_connections 1024; }\ninclude $file;\n";
	close $main or die "cannot write: $!";
	return "$dir/main.conf";
}

test_recipe('nginx.conf', sub {
		my ($dir, $port, $backend) = @_;
		return {
			'listen 443 ssl;'       => "listen 127.0.0.1:$port ssl;",
			'listen [::]:443 ssl;'  => '',
			'/etc/nginx/tallyd.crt' => "$dir/certificate",
			'/etc/nginx/tallyd.key' => "$dir/key",
			'pass 127.0.0.1:7071;'  => $backend =~ m{^/} ? "pass unix:$backend;" : "pass 127.0.0.1:$backend;",
		};
	}, sub { my ($file, $dir) = @_; return ($nginx, '-e', "$dir/error.log", '-c', write_main($file, $dir)) });
