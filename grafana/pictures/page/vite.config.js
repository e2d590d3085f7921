import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  build: { outDir: 'out', chunkSizeWarningLimit: 20000, target: 'es2022' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  esbuild: { jsx: 'automatic' },
});
